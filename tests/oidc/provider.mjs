// An OpenID provider for tests: npm oidc-provider, with two ways to sign in and a page for each, as a person would see.
// Settings come as JSON in the first argument; "ready" is printed once it listens.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const settings = JSON.parse(process.argv[2]);
const require = createRequire(settings.modules);
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

const provider = new Provider(settings.issuer, {
  clients: [{
    client_id: "muniment",
    ...(settings.secret
      ? { client_secret: settings.secret }
      : { token_endpoint_auth_method: "none" }),
    redirect_uris: [`${settings.muniment}/auth/callback`],
    post_logout_redirect_uris: [settings.muniment],
    backchannel_logout_uri: `${settings.muniment}/auth/backchannel-logout`,
    backchannel_logout_session_required: settings.sessions_named,
    id_token_signed_response_alg: settings.algorithm,
  }],
  acrValues: ["pwd", "phr"],
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"], acr: null, auth_time: null, sid: null },
  conformIdTokenClaims: false,
  features: {
    backchannelLogout: { enabled: true },
    claimsParameter: { enabled: settings.claims_parameter },
    devInteractions: { enabled: false },
    rpInitiatedLogout: { enabled: true },
  },
  cookies: { keys: ["only for tests"] },
  // it sends logout tokens to no address of this machine, unless it is told to
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  jwks: settings.jwks,
  pkce: { required: () => true },
  findAccount: async (_, sub) => sub in settings.accounts && {
    accountId: sub,
    claims: async () => ({ sub, ...settings.accounts[sub] }),
  },
  loadExistingGrant: async (ctx) => {
    const grant = new ctx.oidc.provider.Grant({
      clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId,
    });
    grant.addOIDCScope("openid email groups");
    await grant.save();
    return grant;
  },
  interactions: { url: (_, interaction) => `/sign-in/${interaction.uid}` },
  renderError: async (ctx, out) => { ctx.body = JSON.stringify(out); },
});

for (const event of ["server_error", "backchannel.error"]) {
  provider.on(event, (_, error) => console.error(event, error));
}
const answer = provider.callback();
createServer(async (request, response) => {
  const url = new URL(request.url, settings.issuer);
  if (!url.pathname.startsWith("/sign-in/")) return answer(request, response);
  // ?account=…&acr=…: what a person would type, and with what they would prove it
  const account = url.searchParams.get("account");
  if (!account) return response.end("who are you?");
  const result = account === "nobody"
    ? { error: "access_denied", error_description: "you said \u202Eno" }
    : { login: { accountId: account, acr: url.searchParams.get("acr") ?? "pwd", amr: ["pwd"] } };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}).listen(settings.port, "127.0.0.1", () => console.log("ready"));

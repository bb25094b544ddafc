"""Who vouches for a login: an identity provider, an issuer of workloads' tokens. Reached over HTTP, believed by their keys."""

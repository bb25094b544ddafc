"""What SCIM 2.0 clients may keep here, on `scim2_models`: users with what access goes by and no more, groups, agents.

Needs the extra ``scim``; import it where it is used. Attributes that are not here are accepted and dropped: a provider
sends what it has, and what we do not hold cannot leak. Agents are draft-wzdk-scim-agent-resource-00.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from scim2_models import (
    URI,
    URN,
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    ComplexAttribute,
    Email,
    EnterpriseUser,
    ETag,
    Filter,
    Group,
    GroupMembership,
    Mutability,
    Name,
    Pagination,
    Patch,
    Reference,
    Required,
    Resource,
    ResourceType,
    SchemaExtension,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)
from scim2_models.resources.resource import AnyExtension

#: results in one page at most
LARGEST_PAGE = 1000

#: what providers do besides the letter of the protocol, and what is meant by it all the same
POLICY = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)


class User(Resource[AnyExtension]):
    """A person."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    user_name: Annotated[str | None, Uniqueness.server, Required.true] = None
    """Who it is: the identity is human: and this, in lower case."""
    name: Name | None = None
    """The name, for people to read."""
    display_name: str | None = None
    """The name, as it is shown."""
    user_type: str | None = None
    """Such as Employee or Contractor."""
    active: bool | None = None
    """Whether they may do anything. False ends what they hold."""
    emails: list[Email] | None = None
    """Addresses. Nobody is known by them."""
    groups: Annotated[list[GroupMembership] | None, Mutability.read_only] = None
    """The groups they are in."""


class Owner(ComplexAttribute):
    """Who answers for an agent."""

    value: str | None = None
    """The id of the user or agent."""
    ref: Annotated[Reference[URI] | None, Mutability.read_write] = Field(
        None, serialization_alias="$ref", validation_alias="$ref"
    )
    """Its URL."""
    display: str | None = None
    """Its name."""


class Agent(Resource[Any]):
    """An AI agent."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:Agent")

    agent_user_name: Annotated[str | None, Uniqueness.server, Required.true] = None
    """Which it is: the identity is ai_agent: and this, in lower case."""
    display_name: str | None = None
    """The name, as it is shown."""
    description: str | None = None
    """What it is for."""
    active: bool | None = None
    """Whether it may do anything. False ends what it holds."""
    owners: list[Owner] | None = None
    """Who answers for it. Without one, it is given nothing."""


#: kinds, by their name
MODELS: dict[str, type[Resource[Any]]] = {"User": User[EnterpriseUser], "Group": Group, "Agent": Agent}
#: the attribute that names one of its kind
NAMES = {"User": "user_name", "Group": "display_name", "Agent": "agent_user_name"}


def _type_of(kind: str, model: type[Resource[Any]], described: str) -> ResourceType:
    extensions = (
        [SchemaExtension(schema=Reference[URI](EnterpriseUser.__schema__), required=False)]
        if kind == "User"
        else None
    )
    return ResourceType(
        id=kind, name=kind, description=described, endpoint=Reference[URI](f"/{kind}s"),
        schema=Reference[URI](str(model.__schema__)), schema_extensions=extensions,
    )  # fmt: skip


PROVIDER = ScimProvider(
    models=[User, EnterpriseUser, Group, Agent],
    resource_types=[
        _type_of("User", User, "People"),
        _type_of("Group", Group, "Groups; those count that the configuration names"),
        _type_of("Agent", Agent, "AI agents (draft-wzdk-scim-agent-resource-00)"),
    ],
    config=ServiceProviderConfig(
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=LARGEST_PAGE),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=True),
        etag=ETag(supported=True),
        pagination=Pagination(cursor=False, index=True),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Bearer token",
                primary=True,
                description="A token that was made with the scope scim",
            ),
        ],
    ),
    policy=POLICY,
)

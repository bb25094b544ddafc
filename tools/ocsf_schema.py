"""Write what OCSF says of the classes that we send, out of a checkout of github.com/ocsf/ocsf-schema, for tests.

    python tools/ocsf_schema.py REPOSITORY COMMIT > tests/notify/data/ocsf-1.8.json

The schema is its authors', under the Apache License 2.0; here is the small part of it that tests compare events with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from typing import Any

CLASSES = (
    "events/findings/detection_finding",
    "events/iam/account_change",
    "events/iam/entity_management",
    "events/iam/user_access",
    "events/iam/user_management",
)
OBJECTS = ("metadata", "product", "actor", "user", "resource_details", "managed_entity", "finding_info")


def main(repository: str, commit: str) -> None:  # noqa: C901  one walk over one schema
    """Print it."""

    @cache
    def read(name: str) -> Any:
        done = subprocess.run(
            ["git", "-C", repository, "show", f"{commit}:{name}.json"], capture_output=True, check=False
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    dictionary = read("dictionary")["attributes"]
    categories = read("categories")["attributes"]
    paths = subprocess.run(
        ["git", "-C", repository, "ls-tree", "-r", "--name-only", commit, "events", "objects"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    by_name = {}
    for path in paths:
        found = read(path.removesuffix(".json"))
        if isinstance(found, dict) and "name" in found:
            by_name[path.partition("/")[0], found["name"]] = found

    def attributes(kind: str, found: Any) -> dict[str, Any]:
        parent = by_name.get((kind, found.get("extends", "")))
        merged = attributes(kind, parent) if parent else {}
        for name, said in found.get("attributes", {}).items():
            if name != "$include" and isinstance(said, dict):
                before = merged.get(name, {})
                enum = {**before.get("enum", {}), **said.get("enum", {})}
                merged[name] = {**before, **said, **({"enum": enum} if enum else {})}
        return merged

    def short(kind: str, found: Any) -> dict[str, Any]:
        every = {}
        for name, said in sorted(attributes(kind, found).items()):
            known = {**dictionary.get(name, {}), **said}
            enum = {**dictionary.get(name, {}).get("enum", {}), **said.get("enum", {})}
            every[name] = {
                "type": known.get("type", "object"), "requirement": said.get("requirement", "optional"),
                "array": bool(known.get("is_array")), **({"enum": sorted(enum)} if enum else {}),
            }  # fmt: skip
        return every

    def category(found: Any) -> int:
        while "category" not in found:
            found = by_name["events", found["extends"]]
        return int(categories[found["category"]]["uid"])

    classes = {}
    for path in CLASSES:
        if (found := read(path)) is not None:
            number = category(found)
            said = short("events", found)
            said["category_uid"]["enum"] = [str(number)]
            said["class_uid"]["enum"] = [str(number * 1000 + found["uid"])]
            parent = by_name["events", found["extends"]]
            classes[str(number * 1000 + found["uid"])] = {
                "caption": found["caption"],
                "attributes": said,
                "constraints": {**parent.get("constraints", {}), **found.get("constraints", {})},
            }
    written = {
        "version": read("version")["version"],
        "classes": classes,
        "objects": {
            name: {
                "attributes": short("objects", by_name["objects", name]),
                "constraints": by_name["objects", name].get("constraints", {}),
            }
            for name in OBJECTS
            if ("objects", name) in by_name
        },
    }
    print(json.dumps(written, indent=0, sort_keys=True))


if __name__ == "__main__":
    main(*sys.argv[1:])

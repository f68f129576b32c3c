#!/usr/bin/env python3
"""Derives shapes.json, the JSON schemas of successful answers, from the OpenAPI files of the Matrix specification.

    api/tests/spec/shapes.py FOLDER_OF_THE_SPECIFICATION > api/tests/spec/shapes.json

Needs PyYAML. References are resolved; what is not about the shape (descriptions, examples, titles) is left out. Schemas nest at most
DEPTH levels: deeper ones say nothing that a client could not see by itself.
"""

import json
import pathlib
import sys

import yaml

DEPTH = 6
KEPT = ("type", "required", "enum")


def load(path, cache={}):
    if path not in cache:
        cache[path] = yaml.safe_load(path.read_text())
    return cache[path]


def resolved(node, here):
    while isinstance(node, dict) and "$ref" in node:
        target, _, inside = node["$ref"].partition("#")
        here = (here.parent / target).resolve() if target else here
        node = load(here)
        for part in filter(None, inside.split("/")):
            node = node[part]
    return node, here


def shape(node, here, depth=0):
    node, here = resolved(node, here)
    if depth > DEPTH or not isinstance(node, dict):
        return {}
    out = {key: node[key] for key in KEPT if key in node}
    for part in node.get("allOf", []):
        merge(out, shape(part, here, depth))
    for name, child in (node.get("properties") or {}).items():
        if isinstance(child, dict):
            out.setdefault("properties", {})[name] = shape(child, here, depth + 1)
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            out[key] = shape(node[key], here, depth + 1)
    for key in ("oneOf", "anyOf"):
        if key in node:
            out["anyOf"] = [shape(part, here, depth) for part in node[key]]
    return out


def merge(out, part):
    for key, value in part.items():
        if key == "required":
            out[key] = sorted(set(out.get(key, [])) | set(value))
        elif key == "properties":
            out.setdefault(key, {}).update(value)
        else:
            out[key] = value


def main(folder):
    shapes = {}
    for path in sorted((folder / "api" / "client-server").glob("*.yaml")):
        path = path.resolve()
        for operations in load(path).get("paths", {}).values():
            for operation in operations.values():
                if not isinstance(operation, dict) or "operationId" not in operation:
                    continue
                answer = operation["responses"].get("200") or operation["responses"].get(200)
                if answer is None:
                    continue
                answer, here = resolved(answer, path)
                json_answer = answer.get("content", {}).get("application/json")
                if json_answer and "schema" in json_answer:
                    shapes[operation["operationId"]] = shape(json_answer["schema"], here)
    lines = (f"{json.dumps(name)}: {json.dumps(shapes[name], sort_keys=True)}" for name in sorted(shapes))
    print("{\n" + ",\n".join(lines) + "\n}")


main(pathlib.Path(sys.argv[1]))

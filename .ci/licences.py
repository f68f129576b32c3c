#!/usr/bin/env python3
"""Holds deny.toml (licences, bans, sources) against `cargo metadata`, for machines without cargo-deny. Standard library only.
cargo-deny also knows advisories; this script does not."""
import json, re, subprocess, sys, tomllib


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments, "--locked"], stdout=subprocess.PIPE, text=True, check=True).stdout


def reached():
    """Name and version of all that is built on any platform. `cargo metadata` alone would also show optional crates that only a weak
    feature (`crate?/feature`) names; they stand in the lock file and are never built."""
    lines = cargo("tree", "--workspace", "--target", "all", "--prefix", "none", "--format", "{p}").splitlines()
    return {tuple(line.split()[:2]) for line in lines if line.strip()}


def satisfied(expression, allowed):
    """Whether an SPDX expression can be met with the allowed licences; AND binds tighter than OR, `/` is an old OR."""
    words = re.findall(r"\(|\)|[^\s()/]+|/", expression)
    words = ["OR" if word == "/" else word for word in words]

    def either():
        value = both()
        while words and words[0] == "OR":
            words.pop(0)
            value = both() or value
        return value

    def both():
        value = one()
        while words and words[0] == "AND":
            words.pop(0)
            value = one() and value
        return value

    def one():
        word = words.pop(0)
        if word == "(":
            value = either()
            words.pop(0)
            return value
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in allowed

    return either()


def complaints(packages, rules):
    allowed = set(rules["licenses"]["allow"])
    exceptions = {line["crate"]: set(line["allow"]) for line in rules["licenses"].get("exceptions", [])}
    banned = {line["crate"]: line["reason"] for line in rules["bans"]["deny"]}
    registries = {"registry+" + url for url in rules["sources"]["allow-registry"]}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        licence = package["license"]
        if not licence or not satisfied(licence, allowed | exceptions.get(package["name"], set())):
            yield f"{name}: licence {licence!r} is not allowed"
        if package["name"] in banned:
            yield f"{name} is banned: {banned[package['name']]}"
        if package["source"] and package["source"] not in registries:
            yield f"{name} comes from {package['source']}"


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    built = reached()
    packages = [p for p in json.loads(cargo("metadata", "--format-version", "1"))["packages"] if (p["name"], "v" + p["version"]) in built]
    found = list(complaints(packages, rules))
    print("\n".join(found) if found else f"{len(packages)} packages: licences, bans and sources hold")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

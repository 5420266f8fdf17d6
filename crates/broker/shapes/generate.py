"""Writes src/protocol/shapes.txt from the message schemas of a kafka-clients jar.

    python3 crates/broker/shapes/generate.py path/to/kafka-clients-X.jar > crates/broker/src/protocol/shapes.txt

One message per line: api key (or -), name, first flexible version (or x), fields. A field is
`Name:type@versions`, with `?versions` where it may be null and `#tag@versions` where it is tagged;
the fields of a struct follow in braces. Versions are `a-b`, or `a-` without an end.
"""

import json
import re
import sys
import zipfile

TYPES = {
    "bool": "f1", "int8": "f1", "int16": "f2", "uint16": "f2", "int32": "f4", "uint32": "f4",
    "int64": "f8", "float64": "f8", "uuid": "f16", "string": "string", "bytes": "bytes", "records": "records",
}
DATA = ["ConsumerProtocolSubscription", "ConsumerProtocolAssignment"]


def versions(text):
    if text is None or text == "none":
        return None
    if text.endswith("+"):
        return text[:-1] + "-"
    return text if "-" in text else f"{text}-{text}"


def field(f, common):
    kind, array = f["type"], ""
    while kind.startswith("[]"):
        kind, array = kind[2:], array + "[]"
    out = f"{f['name']}:{array}{TYPES.get(kind, 'struct')}@{versions(f['versions'])}"
    if versions(f.get("nullableVersions")):
        out += "?" + versions(f["nullableVersions"])
    if "tag" in f:
        out += f"#{f['tag']}@{versions(f['taggedVersions'])}"
    if kind not in TYPES:
        out += " { " + fields(f.get("fields") or common[kind], common) + " }"
    return out


def fields(list_, common):
    return " ".join(field(f, common) for f in list_ if versions(f["versions"]))


def main():
    lines = []
    with zipfile.ZipFile(sys.argv[1]) as jar:
        for name in jar.namelist():
            if not re.fullmatch(r"common/message/\w+\.json", name):
                continue
            message = json.loads(re.sub(r"^\s*//.*$", "", jar.read(name).decode(), flags=re.M))
            is_data = message["name"] in DATA
            if versions(message["validVersions"]) is None or not (message["type"] == "request" or is_data):
                continue
            flexible = versions(message["flexibleVersions"])
            first = flexible.split("-")[0] if flexible else "x"
            common = {s["name"]: s["fields"] for s in message.get("commonStructs", [])}
            key = message.get("apiKey", "-")
            lines.append((-1 if key == "-" else key, f"{key} {message['name']} {first} {fields(message['fields'], common)}".rstrip()))
    for _, line in sorted(lines):
        print(line)


main()

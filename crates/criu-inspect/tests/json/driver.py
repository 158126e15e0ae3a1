"""Runs Python CRIT over many images in one process.

Reads the names of files from standard input, one a line. For each FILE it writes
FILE.compact, FILE.pretty, FILE.nopl and FILE.info as Python CRIT prints them, and, if there is a
FILE.json, FILE.encoded, which is what Python makes of it. What fails leaves FILE.WHAT.failed.
"""

import io
import json
import sys

import pycriu.images as images


def text(image, indent):
    return (json.dumps(image, indent=indent) + "\n").encode()


def encode(path):
    with open(path + ".json") as source:
        return images.dumps(json.load(source))


for line in sys.stdin:
    path = line.rstrip("\n")
    with open(path, "rb") as source:
        data = source.read()
    attempts = {
        "compact": lambda: text(images.load(io.BytesIO(data)), None),
        "pretty": lambda: text(images.load(io.BytesIO(data), True), 4),
        "nopl": lambda: text(images.load(io.BytesIO(data), True, True), 4),
        "info": lambda: text(images.info(io.BytesIO(data)), 4),
        "encoded": lambda: encode(path),
    }
    for name, attempt in attempts.items():
        try:
            result, suffix = attempt(), ""
        except Exception as error:  # whatever it is, the test wants to know
            result, suffix = repr(error).encode(), ".failed"
        with open(path + "." + name + suffix, "wb") as target:
            target.write(result)

"""Hostile text: case tables, configurations and names of classes, as nobody should write them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import yaml

CANARY = "CANARY"
"""A file of this name appears where something was executed."""

COMMANDS = (
    "$(touch CANARY)", "`touch CANARY`", "; touch CANARY;", "| touch CANARY", "&& touch CANARY",
    "'; touch CANARY; '", '"; touch CANARY; "', "{input}", "{wildcards}", "{config[run]}",
    "{{7*7}}", "__import__('os').system('touch CANARY')", "=cmd|'/C touch CANARY'!A0",
    "<script>alert(1)</script>", "%s%n%x", "-rf", "--config=/etc/passwd", "~", "$HOME",
)  # fmt: skip

PATHS = (
    "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem", ".", "..",
    "/", "//", "./image.nii", "image.nii/", "image.nii/..", "file:///etc/passwd",
    "http://localhost/x.nii.gz", "\\\\host\\share\\x.nii", "C:\\x.nii", "image.nii\x00.png",
    "a/" * 3000 + "x.nii", "x" * 100_000, "fifo",
)  # fmt: skip

UNICODE = (
    "caf\u00e9.nii", "cafe\u0301.nii", "\u202egpj.nii", "a\u200bb", "\ufeffx", "\ud7ff",
    "\U0001f480",
    "\u0000", "\u0007\u001b[31mred\u001b[0m", "a\u2028b", "\u0130", "\u00df",
    "\uff0e\uff0e/x", "\xa0",
)  # fmt: skip

IDS = (
    "", " ", "-", "-rf", ".", "..", "...", "a..b", "a/b", "/a", "a\\b", "CON", "con", "nul.x",
    "COM1",
    "AUX", "labels", "labels.json", "status", "00001", "config", "x" * 129, "x" * 100_000, "a b",
    "a\tb", "a\nb", "a;b", "a&b", "*", "?", "[a]", "a.lesions", "a.agreement", "a.", "A",
    "a.nii.gz",
    "case", "None", "nan", "1e5", "0", "True", "#a", "a:b", "a|b", "a'b", 'a"b',
)  # fmt: skip

GOOD = {"case": "a", "image_ct": "image.nii", "lesion": "lesion.nii"}


def tables(seed: int, count: int) -> Iterator[tuple[str, str, bytes]]:
    """Case tables, as (what is wrong, file ending, bytes)."""
    for cell in (*COMMANDS, *PATHS, *UNICODE, *IDS):
        for column in GOOD:
            rows = [GOOD | {"case": "b"}, GOOD | {column: cell}]
            yield f"{column}={cell[:30]!r}", ".tsv", _table(rows)
    for first, second in (("pt_a", "PT_A"), ("a", "a.lesions"), ("a", "a"), ("a", "a ")):
        yield f"ids {first} {second}", ".tsv", _table([GOOD | {"case": c} for c in (first, second)])
    yield from _forms()
    rng = np.random.default_rng(seed)
    good = _table([GOOD | {"case": c} for c in "abcdef"])
    pool = [
        c.encode("utf-8", "surrogatepass") for c in (*COMMANDS, *PATHS[:-3], *UNICODE, *IDS[:25])
    ]
    pool += [b"\t", b"\n", b"\r", b'"', b"\0", b"\xff", b",", b"\xef\xbb\xbf"]
    for number in range(count):
        data = bytearray(good)
        for _ in range(rng.integers(1, 5)):
            start = int(rng.integers(0, len(data)))
            data[start : start + int(rng.integers(0, 4))] = pool[rng.integers(len(pool))]
        yield f"random {number}", (".tsv", ".csv")[number % 2], bytes(data)


def _table(rows: list[dict[str, str]]) -> bytes:
    lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


def _forms() -> Iterator[tuple[str, str, bytes]]:
    """Tables that are odd as a whole."""
    good = _table([GOOD | {"case": c} for c in "ab"])
    yield "byte order mark", ".tsv", b"\xef\xbb\xbf" + good
    yield "utf-16", ".tsv", good.decode().encode("utf-16")
    yield "latin-1", ".tsv", good + "\u00e9\timage.nii\tlesion.nii\n".encode("latin-1")
    yield "CRLF", ".tsv", good.replace(b"\n", b"\r\n")
    yield "CR", ".tsv", good.replace(b"\n", b"\r")
    yield "no line", ".tsv", b""
    yield "blank lines", ".tsv", good.replace(b"\n", b"\n\n")
    yield "NUL", ".tsv", good.replace(b"\t", b"\0")
    yield "a column twice", ".tsv", good.replace(b"lesion\n", b"case\n", 1)
    yield "a quote that is not closed", ".tsv", good.replace(b"\na\t", b'\n"a\t')
    yield (
        "quotes over two rows",
        ".tsv",
        good.replace(b"\na\t", b'\n"a\t').replace(b"\nb\t", b'\nb"\t'),
    )
    yield "commas in .tsv", ".tsv", good.replace(b"\t", b",")
    yield "tabs in .csv", ".csv", good
    yield "another ending", ".xlsx", good
    yield "short rows", ".tsv", good + b"c\nd\timage.nii\n"
    yield "long rows", ".tsv", good + b"c" + b"\timage.nii" * 50 + b"\n"
    yield "1 000 columns", ".tsv", good.replace(b"lesion\n", b"lesion\t" + b"\t".join(
        b"c%d" % i for i in range(1000)) + b"\n", 1)  # fmt: skip
    yield "columns of ours", ".tsv", good.replace(b"lesion\n", b"lesion\tstatus\tcode\n", 1)
    yield "excluded", ".tsv", good.replace(b"lesion\n", b"lesion\texclude\n", 1).replace(
        b"lesion.nii\n", b"lesion.nii\t" + b"*[" * 5000 + b";;;\n")  # fmt: skip
    yield "300 rows of one case", ".tsv", good + b"x\timage.nii\tlesion.nii\n" * 300


CONFIG = """\
dataset: {name: Hostile, id: 1, cases: TABLE}
targets: {tumor: 1}
segmenters: {tissue: {kind: threshold, bands: {soft: [0, 100]}}}
structures: {soft: tissue/soft}
run: {results: RESULTS}
"""

VALUES = (
    "!!python/object/apply:os.system ['touch CANARY']",
    "!!python/object/new:subprocess.Popen [['touch', 'CANARY']]",
    "!!python/name:os.system", "!!python/module:os", "!unknown x", "!!binary 'AAAA'",
    "!!set {a, b}",
    "!!int 'x'", "!!float 'x'", "!!bool 'maybe'", "!!timestamp 'x'", "2001-99-99", "2001-01-01",
    "!!omap [a: 1]", "!!null x", ".nan", ".inf", "-.inf", "1e999", "9" * 5000, "0x" + "f" * 50_000,
    "-1", "0", "true", "null", "''", "[]", "{}", "[[]]", "{a: {b: {c: 1}}}", "{1: 2}", "{null: 1}",
    "{[a]: 1}", "{{a: 1}: 2}", "{true: 1}", "{1.5: 1}", "{a: 1, a: 2}", "{<<: {a: 1}}", "{<<: 3}",
    "[1, 2, 3]", "['a', 2, null]", "'" + "x" * 100_000 + "'", '"\\0"', '"\\ud800"', '"\\u202e"',
    "'../../x'", "'$(touch CANARY)'", "'{case!r:>999999999}'", "'{case.__class__}'", "'{0}'", "'{'",
    "'{}'", "'{nothing}'", "'*'", "'" + "*a" * 200 + "'", "'[" + "a" * 5000 + "'", "*nothing",
    "&x [*x]", "&x {a: *x}", "|\n  text", "? a\n: b",
)  # fmt: skip

PLACES = (
    "dataset", "dataset.name", "dataset.id", "dataset.cases", "dataset.channels", "dataset.grid",
    "dataset.other_grids", "targets", "targets.tumor", "segmenters", "segmenters.tissue",
    "segmenters.tissue.kind", "segmenters.tissue.bands", "segmenters.tissue.bands.soft",
    "segmenters.tissue.within", "segmenters.tissue.body_above", "segmenters.given",
    "segmenters.given.path", "segmenters.given.labels", "structures", "structures.soft", "compose",
    "compose.order", "compose.repair", "compose.repair.rim_mm", "compose.segmenter_lesions",
    "compose.except", "compose.groups", "compose.nested", "qc", "qc.rules", "qc.off", "qc.groups",
    "qc.decisions", "export", "export.nnunet.mode", "run", "run.batch_size", "run.device",
    "run.case_minutes", "unknown", "pathvars",
)  # fmt: skip


def configurations(seed: int, count: int, share: float) -> Iterator[tuple[str, str]]:
    """Configurations, as (what is wrong, text); `share` of all places and values are tried."""
    rng = np.random.default_rng(seed)
    for place in PLACES:
        for value in VALUES:
            if rng.random() < share:
                yield f"{place}: {value[:30]}", _with(place, value)
    yield from _documents()
    pieces = [
        *VALUES,
        "\t",
        "\n",
        ":",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "&a",
        "*a",
        "<<",
        "---",
        "#",
        "\0",
    ]
    pieces = [piece for piece in pieces if len(piece) < 1000]
    kept = CONFIG.splitlines(keepends=True)[-1]  # where results go is for the user to say
    for number in range(count):
        text = CONFIG.removesuffix(kept)
        for _ in range(rng.integers(1, 4)):
            start = int(rng.integers(0, len(text)))
            stop = start + int(rng.integers(0, 10))
            text = text[:start] + pieces[rng.integers(len(pieces))] + text[stop:]
        yield f"random {number}", text + "\n" + kept


def _with(place: str, value: str) -> str:
    """The sound configuration with one value put in as it is written."""
    data = yaml.safe_load(CONFIG)
    if place.startswith("segmenters.given"):
        data["segmenters"]["given"] = {"kind": "files", "path": "x/{case}", "labels": {"liver": 1}}
        data["structures"]["liver"] = "given/liver"
    section = data
    *above, key = place.split(".")
    for name in above:
        section = section.setdefault(name, {})
    section[key] = "HERE"
    text = yaml.safe_dump(data, default_flow_style=True, width=10**6)
    if "\n" in value:  # only in block style
        return CONFIG + f"\n{place}: {value}\n"
    return text.replace("HERE", value)


def _documents() -> Iterator[tuple[str, str]]:
    """Configurations that are odd as a whole."""
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
    )
    yield "billion laughs", laughs + CONFIG
    for place in ("targets", "structures", "segmenters", "dataset", "compose", "qc"):
        kept = "\n".join(line for line in CONFIG.split("\n") if not line.startswith(place))
        yield f"billion laughs in {place}", f"{laughs}{place}: *a29\n{kept}"
        yield f"billion laughs below {place}", f"{laughs}{place}: {{tumor: *a29}}\n{kept}"
        yield f"billion laughs as a key of {place}", f"{laughs}{place}: {{? *a29 : 1}}\n{kept}"
    for depth in (200, 5000, 50_000):
        yield f"{depth} lists deep", CONFIG + "qc: " + "[" * depth + "]" * depth
        yield f"{depth} mappings deep", CONFIG + "qc: " + "{a: " * depth + "}" * depth
        yield f"{depth} lists deep, not closed", CONFIG + "qc: " + "[" * depth
    yield "two documents", CONFIG + "---\n" + CONFIG
    yield "a list", "[1, 2]"
    yield "a word", "word"
    yield "nothing", ""
    yield "a comment", "# nothing"
    yield "only an anchor", "&a"
    yield "itself", "&a [*a]"
    yield "itself as a mapping", "&a {a: *a}"
    yield "every key twice", CONFIG + CONFIG
    yield (
        "2 000 structures",
        CONFIG.replace(
            "{soft: tissue/soft}",
            "{" + ", ".join(f"s{i}: tissue/soft" for i in range(2000)) + "}",
        ),
    )
    yield "NUL", CONFIG + "\0"
    yield "byte order mark", "\ufeff" + CONFIG
    yield "tabs", CONFIG.replace(": ", ":\t")
    yield "CRLF", CONFIG.replace("\n", "\r\n")
    yield "segmenters that differ in case only", CONFIG.replace(
        "segmenters: {", "segmenters: {Tissue: {kind: threshold, bands: {fat: [-100, 0]}}, "
    ).replace("structures: {", "structures: {fat: Tissue/fat, ")  # fmt: skip


def models() -> Iterator[tuple[str, str]]:
    """dataset.json of nnU-Net models, as (what is wrong, text)."""
    for name in (*COMMANDS, *UNICODE, "../../x", "a/b", "", " ", "x" * 100_000, "liver", "*", "[a"):
        yield f"class {name[:30]!r}", json.dumps({"labels": {"background": 0, name: 1, "liver": 2}})
    values = (
        -1,
        0,
        1.5,
        10**30,
        True,
        None,
        "1",
        [1, 2],
        [],
        {"a": 1},
        float("nan"),
        70_000,
        [[1]],
    )
    for value in values:
        yield f"value {value!r}", json.dumps({"labels": {"background": 0, "liver": value}})
        yield f"labels {value!r}", json.dumps({"labels": value})
        yield f"channels {value!r}", json.dumps({"labels": {"liver": 1}, "channel_names": value})
    yield "twice", '{"labels": {"liver": 1, "liver": 2}}'
    yield "one value twice", '{"labels": {"liver": 1, "spleen": 1}}'
    yield "50 000 classes", json.dumps({"labels": {f"c{i}": i for i in range(50_000)}})
    yield "deep", '{"labels":' + "[" * 100_000 + "]" * 100_000 + "}"
    for text in (
        "",
        "[]",
        "null",
        "1",
        '"x"',
        "{",
        "{}",
        "\0",
        "\ufeff{}",
        "NaN",
        '{"labels": {}}',
    ):
        yield f"text {text!r}", text

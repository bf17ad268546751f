"""The peer of train_step.py: a plain pre-norm decoder, run by a Python that has PyTorch (requirements-torch.lock).

    python benchmarks/peer_torch.py SIZES VOCABULARY WINDOW BATCH PRECISION

Rotary positions, GELU, no dropout, scaled_dot_product_attention, AdamW (fused where there is a GPU), gradients clipped;
compiled by torch.compile on a GPU. Prints one line about itself, then for each number of steps that it reads on
standard input the seconds they took.
"""

import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional


def rotated(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions of [batch, head, token, depth]; the halves of a head are the pairs."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.arange(x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added after."""

    def __init__(self, hidden: int, attention: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.projections = nn.Linear(hidden, 3 * attention, bias=False)
        self.output = nn.Linear(attention, hidden, bias=False)
        self.widen, self.narrow = nn.Linear(hidden, feed_forward), nn.Linear(feed_forward, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[batch, token, hidden] in and out."""
        batch, length, _ = x.shape
        parts = self.projections(self.first(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = rotated(parts[0]), rotated(parts[1]), parts[2]
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, length, -1))
        return x + self.narrow(functional.gelu(self.widen(self.second(x))))


class Decoder(nn.Module):
    """Logits of the next token."""

    def __init__(self, sizes: dict[str, int], vocabulary: int) -> None:
        super().__init__()
        hidden = sizes["hidden"]
        self.embedding = nn.Embedding(vocabulary + 1, hidden)
        parts = (hidden, sizes["attention"], sizes["heads"], sizes["feed_forward"])
        self.blocks = nn.ModuleList(Block(*parts) for _ in range(sizes["layers"]))
        self.norm, self.logits = nn.LayerNorm(hidden), nn.Linear(hidden, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Ids [batch, token] -> [batch, token, vocabulary]."""
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


def main() -> None:
    """Builds, compiles where there is a GPU, and makes steps as it is told."""
    sizes, vocabulary, window, batch, precision = sys.argv[1:]
    count, length, rows = int(vocabulary), int(window), int(batch)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # as JAX and TensorFlow multiply float32 on a GPU unless told otherwise
    model = Decoder(json.loads(sizes), count).to(device)
    step_of = torch.compile(model) if device == "cuda" else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")
    tokens = torch.randint(0, count, (rows, length), device=device)
    before = functional.pad(tokens[:, :-1], (1, 0), value=count)

    def step() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=precision != "float32"):
            logits = step_of(before)
        loss = functional.cross_entropy(logits.float().view(-1, count), tokens.view(-1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        return loss

    about = {"torch": torch.__version__, "device": device, "weights": sum(p.numel() for p in model.parameters())}
    print(json.dumps({**about, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        loss.item()
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()

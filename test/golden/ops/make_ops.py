"""Writes ops.json: inputs, outputs and gradients of the operations networks use, from PyTorch on the CPU in float64.

Remake: python make_ops.py (torch 2.15.0). Layouts are the project's: NHWC, HWIO; linear weights [out, in]. Sizes all differ, so
that swapped axes cannot cancel. Arrays are little-endian float32 in base64.
"""
import base64, json, pathlib
import numpy as np
import torch
import torch.nn.functional as F

torch.manual_seed(0)
cases = []


def pack(t):
    data = t.detach().to(torch.float32).contiguous().numpy().astype("<f4")
    return {"shape": list(t.shape), "data": base64.b64encode(data.tobytes()).decode()}


def draw(*shape, scale=1.0, shift=0.0):
    return (torch.randn(*shape, dtype=torch.float64) * scale + shift).float().double()


def case(name, op, inputs, f, attributes=None, grads=None):
    """`grads`: the inputs to differentiate by, all by default."""
    wanted = list(inputs) if grads is None else grads
    leaves = {k: v.clone().requires_grad_(k in wanted) for k, v in inputs.items()}
    y = f(**leaves)
    dy = draw(*y.shape)
    found = torch.autograd.grad(y, [leaves[k] for k in wanted], dy) if wanted else []
    cases.append({
        "name": name, "op": op, "attributes": attributes or {},
        "inputs": {k: pack(v) for k, v in inputs.items()},
        "output": pack(y), "dy": pack(dy), "grads": {k: pack(g) for k, g in zip(wanted, found)},
    })


def nchw(x):
    return x.permute(0, 3, 1, 2)


def nhwc(x):
    return x.permute(0, 2, 3, 1)


# ops.ts
case("groupNorm", "groupNorm", {"x": draw(2, 6, 10, 8, shift=3), "gamma": draw(8), "beta": draw(8)},
     lambda x, gamma, beta: nhwc(F.group_norm(nchw(x), 4, gamma, beta, 1e-5)), {"groups": 4, "eps": 1e-5}, ["x"])
case("groupNorm, one group", "groupNorm", {"x": draw(1, 3, 5, 6), "gamma": draw(6), "beta": draw(6)},
     lambda x, gamma, beta: nhwc(F.group_norm(nchw(x), 1, gamma, beta, 1e-6)), {"groups": 1, "eps": 1e-6}, ["x"])
case("layerNorm", "layerNorm", {"x": draw(2, 5, 12, shift=-2), "gamma": draw(12), "beta": draw(12)},
     lambda x, gamma, beta: F.layer_norm(x, (12,), gamma, beta, 1e-5), {"eps": 1e-5}, ["x"])
case("softmax", "softmax", {"x": draw(3, 4, 7, scale=3)}, lambda x: x.softmax(-1))
wide = draw(3, 5, 7, scale=2.5)
case("gelu", "gelu", {"x": wide}, lambda x: F.gelu(x))
case("geluTanh", "geluTanh", {"x": wide}, lambda x: F.gelu(x, approximate="tanh"))
case("quickGelu", "quickGelu", {"x": wide}, lambda x: x * torch.sigmoid(1.702 * x))
case("silu", "silu", {"x": wide}, lambda x: F.silu(x))


def attend(q, k, v, scale, mask=None):
    s = q @ k.transpose(-1, -2) * scale
    return (s if mask is None else s + mask).softmax(-1) @ v


case("attention", "attention", {"q": draw(2, 3, 5, 4), "k": draw(2, 3, 7, 4), "v": draw(2, 3, 7, 4)},
     lambda q, k, v: attend(q, k, v, 0.5), {"scale": 0.5})
mask = torch.triu(torch.full((6, 6), -1e9, dtype=torch.float64), 1)
case("attention, causal", "attention", {"q": draw(1, 2, 6, 3), "k": draw(1, 2, 6, 3), "v": draw(1, 2, 6, 3), "mask": mask},
     lambda q, k, v, mask: attend(q, k, v, 0.7, mask), {"scale": 0.7}, ["q", "k", "v"])
case("nearestUpsample2x", "nearestUpsample2x", {"x": draw(2, 3, 5, 4)},
     lambda x: nhwc(F.interpolate(nchw(x), scale_factor=2, mode="nearest")))


def conv(stride, pad):
    (t, b), (l, r) = pad
    return lambda x, w, bias: nhwc(F.conv2d(F.pad(nchw(x), (l, r, t, b)), w.permute(3, 2, 0, 1), bias, stride))


for name, x, k, co, stride, pad in [
    ("3x3, padded", (2, 6, 9, 5), (3, 3), 4, 1, [[1, 1], [1, 1]]),
    ("1x1", (2, 4, 5, 3), (1, 1), 7, 1, [[0, 0], [0, 0]]),
    ("stride 2, padded after", (1, 8, 6, 3), (3, 3), 5, 2, [[0, 1], [0, 1]]),
    ("stride 2, padded around", (1, 7, 8, 3), (3, 3), 4, 2, [[1, 1], [1, 1]]),
    ("patches", (2, 8, 12, 3), (4, 4), 5, 4, [[0, 0], [0, 0]]),
    ("padded beyond the filter", (1, 4, 5, 2), (2, 3), 3, 1, [[3, 2], [1, 4]]),
]:
    case(f"conv2d {name}", "conv2d", {"x": draw(*x), "w": draw(*k, x[-1], co), "bias": draw(co)}, conv(stride, pad), {"stride": stride, "pad": pad})
case("linear", "linear", {"x": draw(2, 3, 5), "weight": draw(7, 5), "bias": draw(7)}, lambda x, weight, bias: F.linear(x, weight, bias))
case("linear without bias", "linear", {"x": draw(4, 6), "weight": draw(3, 6)}, lambda x, weight: F.linear(x, weight))

# tfjs operations
for ta in (False, True):
    for tb in (False, True):
        a, b = draw(*((5, 3) if ta else (3, 5))), draw(*((4, 5) if tb else (5, 4)))
        case(f"matMul {ta} {tb}", "matMul", {"a": a, "b": b}, lambda a, b, ta=ta, tb=tb: (a.T if ta else a) @ (b.T if tb else b), {"transposeA": ta, "transposeB": tb})
case("matMul, batched", "matMul", {"a": draw(2, 3, 4, 5), "b": draw(2, 3, 6, 5)}, lambda a, b: a @ b.transpose(-1, -2), {"transposeA": False, "transposeB": True})
case("transpose", "transpose", {"x": draw(2, 3, 4, 5)}, lambda x: x.permute(0, 3, 1, 2), {"perm": [0, 3, 1, 2]})
case("slice", "slice", {"x": draw(3, 6, 4)}, lambda x: x[:, 2:5], {"begin": [0, 2, 0], "size": [3, 3, 4]})
case("concat", "concat", {"a": draw(2, 3, 4), "b": draw(2, 3, 5)}, lambda a, b: torch.cat([a, b], -1), {"axis": -1})
case("split", "split", {"x": draw(2, 3, 10)}, lambda x: x[..., 5:] * x[..., :5])
case("gather", "gather", {"x": draw(9, 4)}, lambda x: x[torch.tensor([[1, 3, 3], [8, 0, 1]])], {"indices": [[1, 3, 3], [8, 0, 1]]})
case("pad", "pad", {"x": draw(2, 3, 4, 2)}, lambda x: F.pad(x, (0, 0, 0, 3, 1, 2)), {"paddings": [[0, 0], [1, 2], [0, 3], [0, 0]]})
case("mean", "mean", {"x": draw(2, 3, 4, 5)}, lambda x: x.mean((1, 2)), {"axis": [1, 2]})
case("sum", "sum", {"x": draw(3, 4, 5)}, lambda x: x.sum(1, keepdim=True), {"axis": [1]})
case("abs", "abs", {"x": wide}, lambda x: torch.abs(x))
case("clip", "clip", {"x": wide}, lambda x: x.clamp(-1, 2), {"low": -1, "high": 2})
case("exp", "exp", {"x": draw(3, 4)}, lambda x: torch.exp(x))
case("log", "log", {"x": draw(3, 4).abs() + 0.1}, lambda x: torch.log(x))
case("erf", "erf", {"x": wide}, lambda x: torch.erf(x))
case("tanh", "tanh", {"x": wide}, lambda x: torch.tanh(x))
case("sigmoid", "sigmoid", {"x": wide}, lambda x: torch.sigmoid(x))
case("sqrt", "sqrt", {"x": draw(3, 4).abs() + 0.1}, lambda x: torch.sqrt(x))
case("relu", "relu", {"x": wide}, lambda x: torch.relu(x))
case("divide", "divide", {"a": draw(3, 1, 4), "b": draw(2, 4).abs() + 0.5}, lambda a, b: a / b)
case("variance", "variance", {"x": draw(2, 5, 3, 4)}, lambda x: x.var((1, 2), unbiased=False), {"axis": [1, 2]})
case("l2Normalize", "l2Normalize", {"x": draw(3, 8)}, lambda x: x / x.norm(dim=-1, keepdim=True))
case("cumsum", "cumsum", {"x": draw(3, 6)}, lambda x: x.cumsum(-1))
case("roundThrough", "roundThrough", {"x": wide}, lambda x: x + (x.round() - x).detach())
case("avgPool", "avgPool", {"x": draw(1, 4, 6, 3)}, lambda x: nhwc(F.avg_pool2d(nchw(x), 2)))
case("maximum", "maximum", {"a": draw(3, 5), "b": draw(3, 5)}, lambda a, b: torch.maximum(a, b))
case("reverse", "reverse", {"x": draw(2, 3, 5, 2)}, lambda x: x.flip(2), {"axis": 2})
case("max", "max", {"x": draw(4, 7)}, lambda x: x.max(-1).values)
case("where", "where", {"a": draw(4, 5), "b": draw(4, 5)}, lambda a, b: torch.where(a > b, a * 2, b * 3))

path = pathlib.Path(__file__).with_name("ops.json")
path.write_text(json.dumps({"torch": torch.__version__, "cases": cases}) + "\n")
print(len(cases), "cases,", path.stat().st_size, "bytes")

"""How fast images become rows: `embed`, beside the model alone and beside the loops that people write themselves.

    python scripts/bench/bench_embed.py [--device cuda] [--prior NAME …] [--images 256] [--repeats 5] [--out FILE.json]

All ways take the same JPEG files by the same network in the same batches, by turns, so that other work on the machine
falls on all of them; ratios are medians over the turns, of the ratio within a turn:

* `resident`: the model on a batch of random numbers that is on the device already; nothing can be faster.
* `embed`: `rela_zoo.embed` with its own choice of workers, shards written.
* `plain`: as in ReLA's code: PIL, torchvision's transforms, a DataLoader (as many workers as `embed` takes), `.cpu()`.
* `timm`: `timm.data.create_loader` (with its prefetcher on CUDA), and the same loop.
* `thingsvision`: its data set, loader (which has no workers) and extractor, rows kept in memory; where it is installed.
  Its requirements exclude those of this package; version 2.7.3 does run with newer ones.

On a machine that does other work, the wall's clock says little. So the ratio to `resident` is given by processor
seconds, too, of which other work takes nothing: by those of the thread that runs the model, which is the pace where
loading has cores of its own (with one torch thread), and by those of all processes, where everything shares one.
With --compile, `embed` compiles the prior, anew in each turn, from torch's cache but for the first; the model alone and
the others' loops stay as they are.
A turn counts its start, too: processes that decode, and the first batch, whose memory they share until it is written
to, take half a second; of few images that is much of it.
Wanted: embed / resident ≥ 0.90 on a CPU at 224 px and ≥ 0.50 at 32 px, ≥ 0.95 on a GPU; embed / plain ≥ 1.5,
embed / timm ≥ 1.2, embed / thingsvision ≥ 1.2; CLIP ViT-B/16 ≥ 4,000 images/s on an H100 with 16 cores.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import importlib.metadata
import importlib.util
import io
import os
import resource
import shutil
import statistics
import tempfile
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _home  # noqa: F401  (first)
import numpy as np
import torch
from _results import write_results
from PIL import Image

from rela_zoo import embed, load_prior
from rela_zoo.data import FileSource
from rela_zoo.embeddings import Profile

PRIORS = {
    "cpu": ["cifar10-resnet20", "imagenet1k-efficientnet-lite0", "random-vit_small_patch16_224"],
    "cuda": ["random-tf_efficientnet_lite0", "random-vit_small_patch16_224", "random-vit_base_patch16_clip_224"],
}
LOOPS = ("plain", "timm", *(["thingsvision"] if importlib.util.find_spec("thingsvision") else []))  # of other people
WAYS = ("resident", "embed", *LOOPS)
_DIFFERENT = 256  # files that differ; further ones are links to these


def make_pictures(folder: Path, count: int, width: int, height: int) -> Path:
    """JPEG files of about as many bits a pixel as photographs have: smooth fields with some noise."""
    rng = np.random.default_rng(0)
    (folder / "a").mkdir(parents=True)
    for i in range(count):
        path = folder / "a" / f"{i:06d}.jpg"
        if i >= _DIFFERENT:
            os.link(folder / "a" / f"{i % _DIFFERENT:06d}.jpg", path)
            continue
        coarse = Image.fromarray(rng.integers(0, 256, (height // 25 + 2, width // 25 + 2, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + rng.normal(0, 7, (height, width, 1)).astype(np.int16)
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        path.write_bytes(buffer.getvalue())
    return folder


class Ways:
    """One prior, and the ways to get its rows of one folder."""

    def __init__(self, name: str, folder: Path, args: argparse.Namespace, work: Path) -> None:
        self.prior, self.folder, self.work, self.args = load_prior(name), folder, work, args
        self.device = torch.device(args.device)
        self.names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
        self.p = self.prior.transform.preprocessing
        self.profile = Profile()
        self.rows: dict[str, torch.Tensor] = {}
        # Chooses workers and batch size, and warms everything up. Not in the turns: it times the model alone, too.
        self._embed(self.profile)
        self.workers, self.batch = self.profile.num_workers, self.profile.batch_size
        self.prior.to(self.device)
        # As a loop of one's own has it.
        self.plain_network = copy.deepcopy(self.prior.network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def autocast(self) -> Any:
        lower = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}[self.args.precision]
        return torch.autocast(self.device.type, dtype=lower, enabled=lower is not None)

    @torch.inference_mode()
    def resident(self) -> int:
        size = self.p.input_size
        images = torch.randn(self.batch, 3, size, size, device=self.device)
        count = max(1, len(self.names) // self.batch)
        with self.autocast():
            for _ in range(count):
                self.prior.network(images)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
        return count * self.batch

    def embed(self) -> int:
        return self._embed(None)

    def _embed(self, profile: Profile | None) -> int:
        out = self.work / "rows"
        shutil.rmtree(out, ignore_errors=True)
        table = embed(
            self.prior, FileSource(self.folder, self.names), out, device=self.device, batch_size=self.args.batch_size,
            num_workers=self.args.workers, precision=self.args.precision, compile=self.args.compile, progress=False,
            profile=profile,
        )  # fmt: skip
        self.prior.to(self.device)
        self.rows["embed"] = table.rows(range(len(table))).float()
        return len(table)

    def transform(self) -> Any:
        """As a loop of one's own has it, image by image."""
        from torchvision import transforms

        p = self.p
        return transforms.Compose(
            [
                transforms.Resize(p.resize, transforms.InterpolationMode(p.interpolation)),
                transforms.CenterCrop(p.input_size),
                transforms.ToTensor(),
                transforms.Normalize(p.mean, p.std),
            ]
        )

    def plain(self) -> int:
        from torchvision.datasets import ImageFolder

        loader = torch.utils.data.DataLoader(
            ImageFolder(str(self.folder), self.transform()), batch_size=self.batch, num_workers=self.workers
        )
        return self._loop("plain", (images for images, _ in loader))

    def timm(self) -> int:
        from timm.data import ImageDataset, create_loader

        p, on_gpu = self.p, self.device.type == "cuda"
        loader = create_loader(
            ImageDataset(str(self.folder)), input_size=(3, p.input_size, p.input_size), batch_size=self.batch,
            is_training=False, use_prefetcher=on_gpu, num_workers=self.workers, interpolation=p.interpolation,
            mean=p.mean, std=p.std, crop_pct=p.input_size / p.resize, device=self.device, persistent_workers=False,
            pin_memory=on_gpu,
        )  # fmt: skip
        return self._loop("timm", (images for images, _ in loader))

    def thingsvision(self) -> int:
        from thingsvision import get_extractor_from_model
        from thingsvision.utils.data import DataLoader, ImageDataset

        whole = torch.nn.Sequential(OrderedDict(network=self.plain_network))  # it takes what modules with a name give
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), self.autocast():
            extractor = get_extractor_from_model(whole, str(self.device), "pt")
            files = ImageDataset(str(self.folder), str(self.work / "names"), "pt", transforms=self.transform())
            batches = DataLoader(files, self.batch, "pt")
            rows = extractor.extract_features(batches, module_name="network", output_type="ndarray")
        self.rows["thingsvision"] = torch.from_numpy(rows).float()
        return len(rows)

    @torch.inference_mode()
    def _loop(self, way: str, batches: Any) -> int:
        rows = []
        with self.autocast():
            for images in batches:
                rows.append(self.plain_network(images.to(self.device)).float().cpu())
        self.rows[way] = torch.cat(rows)
        return len(self.rows[way])


def processor_seconds() -> float:
    """Of this process and of those children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(one.ru_utime + one.ru_stime for one in map(resource.getrusage, who))


def timed(way: Callable[[], int]) -> dict[str, float]:
    wall, processor, thread = time.perf_counter(), processor_seconds(), time.thread_time()
    count = way()
    return {
        "thread_ms": 1e3 * (time.thread_time() - thread) / count,
        "wall_ms": 1e3 * (time.perf_counter() - wall) / count,
        "processor_ms": 1e3 * (processor_seconds() - processor) / count,
    }


def measure(name: str, args: argparse.Namespace, work: Path) -> dict[str, Any]:
    small = load_prior(name).transform.preprocessing.input_size <= 64
    width, height = (32, 32) if small else (500, 375)
    folder = make_pictures(work / "pictures", args.images * (8 if small else 1), width, height)
    ways = Ways(name, folder, args, work)
    for library in ("timm.data", *LOOPS[2:]):  # importing is no part of a turn
        importlib.import_module(library)
    turns: list[dict[str, dict[str, float]]] = []
    for turn in range(args.repeats):
        order = [*WAYS[turn % len(WAYS) :], *WAYS[: turn % len(WAYS)]]
        turns.append({way: timed(getattr(ways, way)) for way in order})
    cosine = {
        way: float(torch.nn.functional.cosine_similarity(ways.rows["embed"], ways.rows[way]).mean()) for way in LOOPS
    }
    middle = statistics.median
    found: dict[str, Any] = {
        "input_px": ways.p.input_size,
        "files": f"{len(ways.names)} JPEG of {width} × {height}",
        "workers": ways.workers,
        "batch_size": ways.batch,
        "images_per_second": {way: round(1e3 / middle(t[way]["wall_ms"] for t in turns), 1) for way in WAYS},
        "processor_ms_an_image": {way: round(middle(t[way]["processor_ms"] for t in turns), 3) for way in WAYS},
        "mean_cosine_of_rows_with_embed": cosine,
        "stages_ms_an_image": {stage: round(value, 3) for stage, value in ways.profile.milliseconds().items()},
        "binds": ways.profile.binds(),
    }
    for way in ("resident", *LOOPS):
        ratios = [t[way]["wall_ms"] / t["embed"]["wall_ms"] for t in turns]
        found[f"embed_over_{way}"] = [round(one, 3) for one in (middle(ratios), min(ratios), max(ratios))]
    for what in ("thread_ms", "processor_ms"):
        ratios = [t["resident"][what] / t["embed"][what] for t in turns]
        found[f"embed_over_resident_by_{what[:-3]}"] = [
            round(one, 3) for one in (middle(ratios), min(ratios), max(ratios))
        ]
    shutil.rmtree(folder)
    return found


def table(found: dict[str, Any]) -> str:
    lines = [
        f"{'prior':<36}{''.join(f'{way:>14}' for way in WAYS)}  embed / "
        f"resident (by thread, processor), {', '.join(LOOPS)}"
    ]
    for name, one in found["priors"].items():
        rates = "".join(f"{one['images_per_second'][way]:>14,.1f}" for way in WAYS)
        names = ("resident", "resident_by_thread", "resident_by_processor", *LOOPS)
        ratios = ", ".join(f"{one[f'embed_over_{name}'][0]:.2f}" for name in names)
        lines.append(f"{name:<36}{rates}  {ratios}  ({one['workers']} workers; binds: {one['binds']})")
    about = found["environment"]
    where = f"{about['device']}, {about['cpu']}, torch {about['versions']['torch']}"
    lines.append(f"images/s; {where}, load {about['load_average_at_end']}")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> None:
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    found: dict[str, Any] = {"images": args.images, "repeats": args.repeats, "compile": args.compile, "priors": {}}
    for name in args.prior or PRIORS[args.device]:
        work = Path(tempfile.mkdtemp(prefix="bench-embed-", dir=args.temp))
        try:
            found["priors"][name] = measure(name, args, work)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    from PIL import __version__ as pillow

    theirs = {name: importlib.metadata.version(name) for name in LOOPS[2:]}

    write_results(found, args.out, device=args.device, precision=args.precision, pillow=pillow, **theirs)
    print(table(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prior", nargs="+", help="names; three usual ones by default")
    parser.add_argument("--images", type=int, help="of 500 × 375; 8 times as many of 32 × 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, help="of every way; what embed chooses by default")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--precision", choices=("32", "bf16", "16"), default="32", help="of every way")
    parser.add_argument("--compile", action="store_true", help="in `embed` alone; counted, and so of many images only")
    parser.add_argument("--temp", type=Path, default=Path(tempfile.gettempdir()), help="folder with room")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    given.images = given.images or (20_000 if given.device == "cuda" else 256)
    main(given)

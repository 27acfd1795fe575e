"""Runs solo-learn's own scripts, unmodified, one after another in one process, and writes down what happens.

A program for the tests, not a test: `_driver.py` reads the list of jobs from the file named by SOLO_JOBS. It only adds
a callback to the Trainer (which records every batch) and, where a job asks for it, puts small stand-ins in the place
of torchvision's downloaded data sets. A process started by Lightning for DDP gets its arguments on the command line.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path

import numpy as np


def _digest(tensors) -> str:
    import torch

    total = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        total.update(torch.as_tensor(tensor).detach().cpu().contiguous().float().numpy().tobytes())
    return total.hexdigest()


def _recording_trainer(job):
    import lightning.pytorch as pl

    from rela_zoo.hosts.contract import RelaMixin

    class Recorder(pl.Callback):
        def __init__(self):
            rank = int(os.environ.get("LOCAL_RANK", "0"))
            self.path = Path(job["record"] + f".rank{rank}")

        def _write(self, **row):
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")

        def on_train_start(self, trainer, module):
            self._write(
                kind="start",
                rela=getattr(module, "rela", None) is not None,
                wrapped=isinstance(module, RelaMixin),
                epoch=trainer.current_epoch,
                steps=trainer.estimated_stepping_batches,
                global_step=trainer.global_step,
                head=[tuple(p.shape) for p in module.rela_head.parameters()] if hasattr(module, "rela_head") else None,
                unused=getattr(trainer.strategy, "_ddp_kwargs", {}).get("find_unused_parameters"),
                world=trainer.world_size,
                dtype=str(next(module.parameters()).dtype),
                keys=sorted(module.state_dict()),
            )
            if job.get("check_targets"):
                self._write(kind="targets", **_targets_against_images(trainer, module))
                if isinstance(trainer.train_dataloader.dataset, list):
                    self._write(kind="files", files=trainer.train_dataloader.dataset)
            self.before = {name: p.detach().clone() for name, p in module.named_parameters()}
            if job.get("taus"):
                self._note_taus(module)

        def _note_taus(self, module):
            """Write down the momentum of each move of the backbone's twin."""
            updater, move = module.momentum_updater, module.momentum_updater.update

            def noted(online, momentum):
                if online is module.backbone:
                    self._write(kind="tau", tau=updater.cur_tau)
                move(online, momentum)

            updater.update = noted

        def on_before_optimizer_step(self, trainer, module, optimizer):
            self._write(kind="rates", rates=[group["lr"] for group in optimizer.param_groups])

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if job.get("by_hand"):
                self._write(kind="by hand", **_mixture_by_hand(trainer, module, batch))

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            run = getattr(module, "rela", None)
            stage = None if run is None else ("own" if run.sampler.in_own_stage(batch_idx) else "accelerated")
            loss = outputs["loss"] if isinstance(outputs, dict) else outputs
            views = batch[1] if isinstance(batch[1], list) else [batch[1]]
            self._write(
                kind="batch",
                epoch=trainer.current_epoch,
                own_epoch=module.current_epoch,
                batch=batch_idx,
                step=trainer.global_step,
                loss=float(loss),
                stage=stage,
                indices=batch[0].tolist(),
                labels=batch[2].tolist(),
                views=len(views),
                pixels=_digest(views),
                lr=trainer.optimizers[0].param_groups[0]["lr"],
                sampler_epoch=getattr(trainer.train_dataloader.sampler, "epoch", None)
                if hasattr(trainer.train_dataloader, "sampler")
                else None,
            )
            if job.get("kill_at") == [trainer.current_epoch, batch_idx]:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_train_end(self, trainer, module):
            run = getattr(module, "rela", None)
            moved = sorted(
                name for name, p in module.named_parameters() if name in self.before and (p != self.before[name]).any()
            )
            self._write(
                kind="end",
                handover_step=None if run is None else run.handover_step,
                averages=None if run is None else {k: float(v) for k, v in run.averages.items()},
                parameters=_digest([value for _, value in sorted(module.state_dict().items())]),
                metrics={k: float(v) for k, v in trainer.callback_metrics.items()},
                moved=moved,
                channels_last=any(
                    p.dim() == 4
                    and p.shape[1] > 3
                    and p.is_contiguous(memory_format=__import__("torch").channels_last)
                    and not p.is_contiguous()
                    for p in module.parameters()
                ),
            )

    class RecordingTrainer(pl.Trainer):
        @functools.wraps(pl.Trainer.__init__)
        def __init__(self, *args, **kwargs):
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), Recorder()]
            kwargs.setdefault("num_sanity_val_steps", 0)
            kwargs["enable_progress_bar"] = False
            kwargs["enable_model_summary"] = False
            super().__init__(*args, **kwargs)

    return RecordingTrainer


def _mixture_by_hand(trainer, module, batch):
    """What a batch's loss has to be with `mix: linear`, from a copy of the module which knows nothing of rela."""
    import copy

    import torch
    from torch.nn.functional import cosine_similarity, cross_entropy

    indices, views, labels = batch
    rela, made = module.rela, trainer.global_step - (module.rela.handover_step or 0)
    share = 1 - made / (trainer.estimated_stepping_batches - (module.rela.handover_step or 0))
    with torch.no_grad():
        whole = copy.deepcopy(module).training_step(batch, 0)
        alone = copy.deepcopy(module)
        features = [alone.backbone(view) for view in views]
        classifier = sum(cross_entropy(alone.classifier(one), labels) for one in features) / 2
        if getattr(alone, "momentum_classifier", None) is not None:
            twins = [alone.momentum_backbone(view) for view in views]
            classifier += sum(cross_entropy(alone.momentum_classifier(one), labels) for one in twins) / 2
        wanted = rela.targets[0].transport(rela.targets[0].rows(indices), dim=rela.dims[0])
        ours = sum((1 - cosine_similarity(rela.head(one), wanted)).mean() for one in features) / 2
        total = share * ours + (1 - share) * (whole - classifier) + classifier
    return {"share": share, "total": float(total), "ours": float(ours), "own": float(whole - classifier)}


def _targets_against_images(trainer, module):
    """Least cosine between each sample's stored row and its image, embedded here from what the data set returns."""
    import torch

    from rela_zoo import load_prior

    prior, data = load_prior("tiny-grid"), trainer.train_dataloader.dataset
    if isinstance(data, list):  # the files of DALI's reader, in the order of the indices
        from PIL import Image

        images = [Image.open(file).convert("RGB") for file in data]
    else:
        data = data.base
        transform, data.transform = data.transform, None
        images = [data[i][1] for i in range(len(data))]
        data.transform = transform
    with torch.no_grad():
        wanted = torch.cat([prior(prior.transform(image)[None]) for image in images])
    rows = module.rela.targets[0].rows(torch.arange(len(data))).float()
    return {"worst": float(torch.nn.functional.cosine_similarity(wanted, rows).min()), "samples": len(data)}


def _small_data_sets() -> None:
    """CIFAR and STL10 as torchvision has them in memory, without files: 48 random images, the same in each process."""
    import torchvision.datasets as sets

    def small(base, stl):
        class Small(base):
            def __init__(self, root, train=True, split="train", transform=None, target_transform=None, download=False):
                rng = np.random.default_rng(7 if train and "train" in split else 8)
                self.root, self.transform, self.target_transform = str(root), transform, target_transform
                self.train, self.split = train, split
                labels = np.arange(48) % 10
                if stl:
                    self.data = rng.integers(0, 256, (48, 3, 96, 96), dtype=np.uint8)
                    self.labels = np.where(np.arange(48) < 24, labels, -1) if "unlabeled" in split else labels
                else:
                    self.data = rng.integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
                    self.targets = labels.tolist()

        Small.__name__ = Small.__qualname__ = base.__name__
        return Small

    for name in ("CIFAR10", "CIFAR100", "STL10"):
        setattr(sets, name, small(getattr(sets, name), name == "STL10"))


def _dali_without_gpu() -> None:
    """solo-learn always names a GPU to DALI, which refuses to build a pipeline then where there is none."""
    import torch
    from solo.data.dali_dataloader import PretrainPipelineBuilder

    original = PretrainPipelineBuilder.pipeline
    if torch.cuda.is_available() or getattr(original, "for_cpu", False):
        return

    def pipeline(self, *args, **kwargs):
        return original(self, *args, **{**kwargs, "device_id": None})

    pipeline.for_cpu = True
    PretrainPipelineBuilder.pipeline = pipeline


def _watch_reading(job) -> None:
    """Write down which images are read by workers for the rows; solo-learn's own data sets read in another way."""
    from torch.utils.data import get_worker_info

    import rela_zoo.data

    source, log = rela_zoo.data.FileSource, Path(job["record"] + ".read")
    read = source.raw

    def raw(self, index):
        if get_worker_info() is not None:
            with log.open("a") as file:
                file.write(f"{index}\n")
        return read(self, index)

    source.raw = raw


def _run(job) -> None:
    import lightning.pytorch as pl
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    if job.get("cuda_is_cpu"):
        import torch

        torch.Tensor.cuda = lambda self, *args, **kwargs: self
    if job.get("watch_reading"):
        _watch_reading(job)
    script = Path(job["script"])
    sys.path[0] = str(script.parent)
    if "data.format=dali" in job["arguments"]:
        _dali_without_gpu()
    before, pl.Trainer = pl.Trainer, _recording_trainer(job) if "record" in job else pl.Trainer
    try:
        # Not runpy, which would change sys.argv[0], by which Lightning starts the other processes of DDP.
        module = types.ModuleType("__main__")
        module.__file__ = str(script)
        sys.modules["__main__"] = module
        exec(compile(script.read_bytes(), str(script), "exec"), module.__dict__)
    finally:
        pl.Trainer = before


def main() -> None:
    jobs = json.loads(Path(os.environ["SOLO_JOBS"]).read_text())
    import warnings

    warnings.simplefilter("ignore")
    if any(job.get("small_data_sets") for job in jobs):
        _small_data_sets()
    if int(os.environ.get("LOCAL_RANK", "0")) > 0:
        _run(jobs[0])
        return
    failed = False
    for job in jobs:
        sys.argv[1:] = job["arguments"]
        started = time.monotonic()
        result = {"ok": True, "error": ""}
        print(f"=== job {job['name']}", flush=True)
        try:
            _run(job)
        except SystemExit as error:
            if error.code not in (None, 0):
                result = {"ok": False, "error": str(error)}
        except BaseException as error:
            result = {"ok": False, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        failed = failed or not result["ok"]
        result["seconds"] = time.monotonic() - started
        Path(job["result"]).write_text(json.dumps(result))
        sys.stdout.flush()
    sys.exit(int(failed))


if __name__ == "__main__":
    main()

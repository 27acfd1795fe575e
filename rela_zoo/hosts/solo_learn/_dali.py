"""Epoch subsets under DALI: the reader of each epoch lists just its samples, in the order of training.

Needs `dali.encode_indexes_into_labels=true`: only then does a batch say which samples it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rela_zoo.data import FileSource, relative_ids
from rela_zoo.data.views import RELA_VIEW
from rela_zoo.engine import Accelerator, SubsetSampler, ViewShape
from rela_zoo.engine.config import RelaConfig
from rela_zoo.hosts.lightning import Placement
from rela_zoo.hosts.protocols import HostModule


class DaliData:
    """The training data of solo-learn's `PretrainDALIDataModule`, as the wrapper wants them.

    Args:
        module: the wrapped method, attached to its trainer.
    """

    placement: Placement | None = None

    def __init__(self, module: HostModule) -> None:
        from solo.data.dali_dataloader import PretrainPipelineBuilder

        self._method, self._data = module, module.trainer.datamodule
        data = self._data
        self._builder = PretrainPipelineBuilder(
            data.train_data_path,
            batch_size=data.batch_size,
            device=data.dali_device,
            transforms=data.transforms,
            random_shuffle=False,
            device_id=data.device_id,
            num_threads=data.num_workers,
            no_labels=data.no_labels,
            encode_indexes_into_labels=True,
            data_fraction=data.data_fraction,
        )
        # The builder keeps its list nowhere else; positions in it are what the encoded labels count.
        self._files = [str(file) for file in self._builder.reader._init_args["files"]]
        root = str(data.train_data_path)
        self.source = FileSource(root, relative_ids(root, self._files))
        self.batch_size = int(data.batch_size)

    def install(self, accelerator: Accelerator, views: ViewShape | None) -> _EpochLoader:
        """Put a loader over epoch subsets in the place of the data module's own."""
        config, own = accelerator.config, self._data.transforms
        accelerated = self._accelerated_transforms(config) if config.accelerates and views is not None else own
        loader = _EpochLoader(self._data, self._builder, self._files, accelerator.sampler, accelerated)
        self._data.train_loader = loader
        return loader

    def _accelerated_transforms(self, config: RelaConfig) -> Any:
        """The milder views as DALI operators, for the large crops only."""
        if config.augmentations == "method":
            return self._data.transforms
        from omegaconf import OmegaConf
        from solo.data.dali_dataloader import build_transform_pipeline_dali
        from solo.data.pretrain_dataloader import FullTransformPipeline, NCropAugmentation

        cfg, large = self._method.cfg, self._method.num_large_crops
        first = cfg.augmentations[0]
        if isinstance(config.augmentations, str):
            views = [{**RELA_VIEW, "crop_size": first.crop_size, "num_crops": large}]
        else:
            views = [dict(view) for view in config.augmentations]
        pipelines = []
        for view in views:
            # Mean and deviation are a matter of the data, so they come from the method's own views.
            own = {key: first[key] for key in ("mean", "std") if key in first}
            node = OmegaConf.create({**own, **view})
            operators = build_transform_pipeline_dali(cfg.data.dataset, node, dali_device=self._data.dali_device)
            pipelines.append(NCropAugmentation(operators, node.num_crops))
        return FullTransformPipeline(pipelines)


class _EpochLoader:
    """Iterates over one epoch's subset by a DALI pipeline made for it; batches are `[indices, views, targets]`."""

    # What Lightning and the handover ask a loader for; nothing is drawn ahead across epochs.
    num_workers = 0
    prefetch_factor = None

    def __init__(self, data: Any, builder: Any, files: list[str], sampler: SubsetSampler, accelerated: Any) -> None:
        self._data, self._builder, self._files = data, builder, files
        self.sampler, self.dataset, self.dataset_size = sampler, files, len(files)
        self._accelerated = accelerated
        self._iterator: Any = None

    def __len__(self) -> int:
        return len(self.sampler) // self._data.batch_size

    def __iter__(self) -> Iterator[Any]:
        import torch
        from nvidia.dali import ops
        from nvidia.dali.plugin.pytorch import LastBatchPolicy
        from solo.data.dali_dataloader import PretrainWrapper

        # The old pipeline's memory goes before the new one asks for its own.
        self._iterator = None
        data, builder, sampler = self._data, self._builder, self.sampler
        own = sampler.in_own_stage(0)
        indices = [packed % len(self._files) for packed in sampler]
        builder.transforms = data.transforms if own else self._accelerated
        builder.reader = ops.readers.File(
            files=[self._files[i] for i in indices], labels=indices, shard_id=0, num_shards=1
        )
        large, small = data.num_large_crops, data.num_small_crops
        if not own and self._accelerated is not data.transforms:
            small = 0
        pipeline = builder.pipeline(
            batch_size=data.batch_size,
            num_threads=builder.num_threads,
            device_id=data.device_id if torch.cuda.is_available() else None,
            seed=(sampler.seed * 1_000_003 + sampler.epoch * 1009 + sampler.rank) % 2**31,
        )
        pipeline.build()
        self._iterator = PretrainWrapper(
            model_batch_size=data.batch_size,
            model_rank=data.device_id,
            model_device=data.device,
            dataset_size=len(indices),
            conversion_map=builder.conversion_map,
            pipelines=pipeline,
            output_map=[f"large{i}" for i in range(large)] + [f"small{i}" for i in range(small)] + ["label"],
            reader_name="Reader",
            last_batch_policy=LastBatchPolicy.DROP,
        )
        return iter(self._iterator)


def is_dali(module: HostModule) -> bool:
    """Whether a module trains on data from DALI."""
    return type(getattr(module.trainer, "datamodule", None)).__name__ == "PretrainDALIDataModule"

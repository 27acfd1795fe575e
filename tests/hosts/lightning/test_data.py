"""Where training data may come from, and what is refused."""

import lightning.pytorch as pl
import numpy as np
import pytest
import tiny
import torch
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from rela_zoo.errors import ConfigError, EmbeddingsError

EXPECTED = ["accelerated"] * 6 + ["own"] * 6


class Data(pl.LightningDataModule):
    def setup(self, stage):
        self.images = tiny.Images()

    def train_dataloader(self):
        return tiny.loader(data=self.images)

    def val_dataloader(self):
        return tiny.loader(data=self.images, shuffle=False)


class Moves(Data):
    """Has a hook of its own for batches, which Lightning prefers to the module's."""

    def on_before_batch_transfer(self, batch, dataloader_idx):
        views, which = batch
        return [2 * view for view in views], which


class Validated(tiny.SimCLR):
    def validation_step(self, batch, batch_idx):
        self.last = batch


@pytest.mark.parametrize("kind", [Data, Moves])
def test_from_a_data_module(kind):
    module, data = Validated(), kind()
    tiny.fit(module, tiny.rela(), data)
    assert module.stages == EXPECTED
    # Pixels are in [-2, 2].
    assert (float(module.last[0][0].abs().max()) > 2) == (kind is Moves)
    assert set(vars(data)).isdisjoint({"on_before_batch_transfer"})


def test_a_hook_of_the_data_module_still_has_its_say():
    losses = []
    for kind in (Data, Moves):
        module = tiny.SimCLR()
        tiny.fit(module, tiny.rela(), kind())
        losses.append(module.losses)
    assert losses[0] != losses[1]


def test_from_the_module_itself_made_in_its_setup():
    class Whole(tiny.SimCLR):
        def setup(self, stage):
            self.images = tiny.Images()

        def train_dataloader(self):
            return tiny.loader(data=self.images)

        def on_before_batch_transfer(self, batch, dataloader_idx):
            self.moved = type(batch)
            return batch

    module = Whole()
    tiny.fit(module, tiny.rela())
    assert module.stages == EXPECTED
    assert module.moved is list


def test_asking_for_the_length_of_the_training_first_does_no_harm():
    class Hasty(tiny.SimCLR):
        def setup(self, stage):
            self.early = self.trainer.estimated_stepping_batches

        def on_train_start(self):
            self.late = self.trainer.estimated_stepping_batches

    module = Hasty()
    tiny.fit(module, tiny.rela(), tiny.loader())
    assert (module.early, module.late) == (24, 12)
    assert module.stages == EXPECTED


def test_a_part_of_a_data_set():
    order = torch.randperm(tiny.N, generator=torch.Generator().manual_seed(5))[:16].tolist()
    module = tiny.SimCLR()
    tiny.fit(module, tiny.rela(), tiny.loader(data=Subset(tiny.Images(), order)))
    assert module.stages == ["accelerated"] * 4 + ["own"] * 4
    assert {i for _, _, samples, *_ in module.seen for i in samples} <= set(order)


class Unreadable(torch.utils.data.Dataset):
    """Images that only the data set knows how to get at."""

    def __init__(self):
        self._images = tiny.Images()
        self.transform = self._images.transform

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        self._images.transform = self.transform
        return self._images[index]


def test_a_data_set_that_cannot_be_read_needs_the_images_beside_it():
    with pytest.raises(EmbeddingsError, match="is no image"):
        tiny.fit(tiny.SimCLR(), tiny.rela(), tiny.loader(data=Unreadable()))
    with pytest.raises(ConfigError, match="24 samples, as in the data set"):
        tiny.fit(tiny.SimCLR(), tiny.rela(source=tiny.Images().data[:20]), tiny.loader(data=Unreadable()))
    losses = []
    for source, data in ((None, tiny.Images()), (tiny.Images().data, Unreadable())):
        module = tiny.SimCLR()
        tiny.fit(module, tiny.rela(source=source), tiny.loader(data=data))
        losses.append(module.losses)
    assert losses[0] == losses[1]


def _bare():
    data = tiny.Images()
    del data.transform
    return data


def _batches():
    return DataLoader(tiny.Images(), batch_sampler=[[0, 1], [2, 3]])


@pytest.mark.parametrize(
    ("data", "settings", "key"),
    [
        (lambda: tiny.loader(shuffle=None, sampler=WeightedRandomSampler(np.ones(24), 24)), {}, "sampler"),
        (_batches, {}, "batch_size"),
        (lambda: [tiny.loader(), tiny.loader()], {}, "data"),
        (tiny.loader, {"overfit_batches": 2}, "overfit_batches"),
        (lambda: tiny.loader(data=_bare()), {}, "data.dataset"),
        (lambda: tiny.loader(batch_size=16), {}, "rela.data_ratio"),
        (tiny.loader, {"max_epochs": -1, "max_steps": 2}, "rela.handover"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(data, settings, key):
    with pytest.raises(ConfigError) as caught:
        tiny.fit(tiny.SimCLR(), tiny.rela(), data(), **settings)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_a_launcher_with_more_processes_than_the_trainer_knows_of(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("GROUP_RANK", "0")
    with pytest.raises(ConfigError, match="devices: expected as many processes as the launcher has started, 2, got 1"):
        tiny.fit(tiny.SimCLR(), tiny.rela(), tiny.loader())


def test_weights_that_nobody_would_heed_are_refused():
    with pytest.raises(ConfigError, match=r"rela\.selection: expected samples without weights"):
        tiny.rela(selection="loss")
    module = tiny.SimCLR()
    tiny.fit(module, tiny.rela(selection="loss", handover=1.0), tiny.loader())
    assert module.stages == ["accelerated"] * 12

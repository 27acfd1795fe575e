"""The data sets of stable-pretraining: joined by lasting ids, views laid out as their own, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

spt = pytest.importorskip("stable_pretraining")
datasets = pytest.importorskip("datasets")
tiny = pytest.importorskip("tiny_spt")

from stable_pretraining.data import Subset, random_split, sampler, transforms  # noqa: E402
from stable_pretraining.data.datasets import HFIterableDataset, HFMapDataset  # noqa: E402

from rela_zoo.data import image_source  # noqa: E402
from rela_zoo.engine import Accelerator  # noqa: E402
from rela_zoo.errors import ConfigError, EmbeddingsError, RelaZooError  # noqa: E402
from rela_zoo.hosts.stable_pretraining import accelerate  # noqa: E402

pytestmark = pytest.mark.spt


@pytest.fixture
def joined(monkeypatch):
    """Of each accelerated batch, the prior's rows that its samples were given, in the order of the batch."""
    met = []
    own = Accelerator.loss

    def loss(self, features, indices):
        met.append(self.targets[0].rows(indices))
        return own(self, features, indices)

    monkeypatch.setattr(Accelerator, "loss", loss)
    return met


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The prior's row of each of the 24 images, computed apart from any host."""
    from rela_zoo import load_prior

    prior = load_prior("random-test_resnet")
    with torch.no_grad():
        return prior(torch.stack([prior.transform(Image.fromarray(one)) for one in tiny.Pixels().data]))


def _hub(**more):
    """The same images as on the Hub: encoded, in a column."""
    pictures = [Image.fromarray(one) for one in tiny.Pixels().data]
    made = {"image": pictures, "label": list(range(tiny.N))}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    return HFMapDataset(datasets.Dataset.from_dict(made, features=features), tiny.two_views(), **more)


def _folder(root):
    for i, one in enumerate(tiny.Pixels().data):
        place = root / "images" / ("odd" if i % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(place / f"{i:02d}.png")
    return datasets.load_dataset("imagefolder", data_dir=str(root / "images"), split="train", cache_dir=str(root))


def _of_folder(root):
    # Its labels are of the two folders: the number in the name is what a sample is known by here.
    listed = _folder(root).cast_column("image", datasets.Image(decode=False))
    numbers = [int(one["image"]["path"][-6:-4]) for one in listed]
    labelled = listed.remove_columns("label").add_column("label", numbers).cast_column("image", datasets.Image())
    return HFMapDataset(labelled, tiny.two_views())


def _part(whole):
    return Subset(whole, list(range(tiny.N))[::-1])


SETS = {
    "array": lambda root: tiny.images(),
    "part of an array": lambda root: _part(tiny.images()),
    "split at random": lambda root: random_split(tiny.images(), [20, 4], torch.Generator().manual_seed(0))[0],
    "torch's part": lambda root: torch.utils.data.Subset(tiny.images(), range(4, 24)),
    "Hub": lambda root: _hub(),
    "Hub, shuffled": lambda root: _hub().shuffle(seed=3),
    "part of the Hub's": lambda root: _part(_hub()),
    "folder": _of_folder,
}


@pytest.mark.parametrize("name", SETS)
def test_each_sample_meets_its_own_row(name, joined, rows, tmp_path):
    seen = []

    class Labels(tiny.pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            assert type(batch) is dict
            first = batch["views"][0]
            assert int(first["sample_idx"].max()) < tiny.N
            seen.append(first["label"])

    module = accelerate(tiny.module(), tiny.rela(handover=1.0))
    tiny.fit(module, Labels(), data=tiny.loader(SETS[name](tmp_path)), max_epochs=2)
    assert len(joined) == len(seen) >= 4
    for got, labels in zip(joined, seen, strict=True):
        assert torch.allclose(got.float(), rows[labels], atol=2e-2 * float(rows.abs().max()))


def test_ids_are_those_of_the_same_images_elsewhere(tmp_path):
    from rela_zoo.hosts.stable_pretraining._source import spt_source

    plain = image_source(tiny.Pixels().data)
    assert list(spt_source(tiny.images(), "image").ids) == list(plain.ids)
    assert list(spt_source(_hub(), "image").ids) == list(plain.ids)
    assert sorted(spt_source(_hub().shuffle(seed=3), "image").ids) == sorted(plain.ids)
    _hub().dataset.remove_columns("sample_idx").to_parquet(tmp_path / "train.parquet")
    assert list(image_source(tmp_path / "train.parquet").ids) == list(plain.ids)
    folder = _of_folder(tmp_path)
    assert sorted(spt_source(folder, "image").ids) == sorted(image_source(tmp_path / "images").ids)


def test_workers_change_nothing():
    losses = []
    for workers in (0, 2):
        record = tiny.Record()
        tiny.fit(accelerate(tiny.module(), tiny.rela()), record, data=tiny.loader(workers=workers))
        losses.append(record.losses)
    assert losses[0] == losses[1]


def test_one_view_and_grey_images():
    def forward(self, batch, stage):
        out = {"embedding": self.backbone(batch["image"]), "label": batch["label"]}
        return {**out, "loss": out["embedding"].square().mean()}

    grey = {"mean": [0.5], "std": [0.25]}
    one = transforms.Compose(
        transforms.WrapTorchTransform(torch.nn.Identity()), transforms.RandomCrop((6, 6)), transforms.ToImage(**grey)
    )

    class Grey(tiny.Pixels):
        def __getitem__(self, index):
            picture, label = super().__getitem__(index)
            return picture.convert("L"), label

    module = spt.Module(
        forward=forward, backbone=nn.Sequential(nn.Conv2d(1, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        optim={"optimizer": "AdamW", "scheduler": "ConstantLR"},
    )  # fmt: skip
    data = spt.data.FromTorchDataset(Grey(), names=["image", "label"], transform=one)
    record = tiny.Record()
    tiny.fit(accelerate(module, tiny.rela()), tiny.probe(module), record, data=tiny.loader(data))
    assert record.sizes == [{6}] * 12
    assert [out["label"].tolist() for out in record.outputs] == record.samples


def test_own_views_in_both_stages():
    record = tiny.Record()
    data = tiny.loader(tiny.images(tiny.multi_crop()))
    tiny.fit(accelerate(tiny.module("dino"), tiny.rela(augmentations="method")), record, data=data)
    assert record.sizes == [{8, 4}] * 12


class Twice(nn.Module):
    """Views made on the device."""

    def forward(self, batch):
        batch["views"] = [{**batch, "image": batch["image"] * sign} for sign in (1, -1)]
        del batch["image"]
        return batch


def test_views_made_on_the_device():
    data = tiny.images(view := tiny.view())
    data.gpu_transform = Twice()
    for settings, key in (({}, "features_dim"), ({"features_dim": 8}, "gpu_transform")):
        with pytest.raises(ConfigError) as caught:
            tiny.fit(accelerate(tiny.module(), tiny.rela(), **settings), data=tiny.loader(data))
        assert [problem.key for problem in caught.value.problems] == [key]
    module = accelerate(tiny.module(), tiny.rela(augmentations="method"), features_dim=8)
    run = tiny.fit(module, data=tiny.loader(data))
    assert tiny.accelerator(run).handover_step == 6
    assert len(module.seen) == 6
    assert data.transform is view


class Unreadable(spt.data.Dataset):
    def __init__(self):
        super().__init__(tiny.two_views())
        self._of = tiny.Pixels()

    def __len__(self):
        return tiny.N

    def __getitem__(self, index):
        picture, label = self._of[index]
        return self.process_sample({"image": picture, "label": label, "sample_idx": index})


def test_a_data_set_that_cannot_be_read_needs_the_images_beside_it(joined):
    with pytest.raises(EmbeddingsError, match=r"Unreadable can't be joined[\s\S]*source=FOLDER"):
        tiny.fit(accelerate(tiny.module(), tiny.rela()), data=tiny.loader(Unreadable()))
    pixels = tiny.Pixels().data
    with pytest.raises(EmbeddingsError, match="the same in another order"):
        tiny.fit(accelerate(tiny.module(), tiny.rela(), source=pixels[::-1].copy()), data=tiny.loader(Unreadable()))
    with pytest.raises(ConfigError, match="24 samples, as in the data set"):
        tiny.fit(accelerate(tiny.module(), tiny.rela(), source=pixels[:20]), data=tiny.loader(Unreadable()))
    tiny.fit(accelerate(tiny.module(), tiny.rela(), source=pixels), data=tiny.loader(Unreadable()))
    beside = list(joined)
    joined.clear()
    tiny.fit(accelerate(tiny.module(), tiny.rela()))
    assert all(torch.equal(one, two) for one, two in zip(beside, joined, strict=True))


def _stream():
    return HFIterableDataset(_hub().dataset.remove_columns("sample_idx").to_iterable_dataset(), tiny.two_views())


def _bare():
    transform = transforms.MultiViewTransform([transforms.Compose(transforms.ToImage())] * 2)
    return tiny.images(transform)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: tiny.loader(_stream(), shuffle=None), "can be drawn by index, got a stream"),
        (lambda: tiny.loader(shuffle=None, sampler=sampler.RepeatedRandomSampler(24, n_views=2)), "without a sampler"),
        (lambda: tiny.loader(_bare()), "views that end in Normalize"),
        (lambda: tiny.loader(tiny.images(lambda sample: sample)), "as tensors"),
        (lambda: tiny.loader(_hub(rename_columns={"image": "picture"})), "no images under 'image'"),
        (lambda: tiny.loader(torch.utils.data.TensorDataset(torch.zeros(24, 3))), "with `transform`"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(data, message):
    with pytest.raises(RelaZooError, match=message):
        tiny.fit(accelerate(tiny.module(), tiny.rela()), data=data())


def test_views_on_the_device_are_refused_or_left_to_the_workers():
    for key, value in (("views_on", "device"), ("cache", "memory")):
        with pytest.raises(ConfigError, match=rf"rela\.{key}.*dictionaries"):
            tiny.fit(accelerate(tiny.module(), tiny.rela(**{key: value})), data=tiny.loader())
    tiny.fit(accelerate(tiny.module(), tiny.rela(views_on="auto", cache="auto")), data=tiny.loader())


def test_mistakes_in_the_call():
    with pytest.raises(ConfigError, match=r"rela\.data_ratio: expected"):
        accelerate(tiny.module(), tiny.rela(data_ratio=3))
    watched = tiny.module()
    tiny.probe(watched)
    with pytest.raises(RelaZooError, match="accelerate comes too late"):
        accelerate(watched, tiny.rela())
    with pytest.raises(RelaZooError, match="accelerate comes too late"):
        accelerate(accelerate(tiny.module(), tiny.rela()), tiny.rela())
    with pytest.raises(RelaZooError, match=r"no part 'encoder'[\s\S]*backbone, projector"):
        tiny.fit(accelerate(tiny.module(), tiny.rela(), features="encoder"))
    with pytest.raises(RelaZooError, match=r"no features[\s\S]*\(2, 3, 8, 8\)"):
        tiny.fit(accelerate(tiny.module(), tiny.rela(), features=lambda module, images: images))


def test_pixels_of_any_form_become_a_picture():
    from rela_zoo.hosts.stable_pretraining._views import to_picture

    pixels = tiny.Pixels().data[0]
    for form in (Image.fromarray(pixels), pixels, pixels.transpose(2, 0, 1), torch.from_numpy(pixels)):
        assert np.array_equal(np.asarray(to_picture(form)), pixels)
    for form in (pixels[..., 0], pixels[..., :1], pixels[..., 0][None]):
        assert np.array_equal(np.asarray(to_picture(form)), pixels[..., 0])

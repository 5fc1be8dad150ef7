"""What a GPU would refuse: tensors of the processor among those of the device."""

import pytest
import torch
from energies import SOME, energy_of, examples, shaping_of
from other_device import DEVICE, marked, other_device, put

from genseg.energies.draws import Draws
from genseg.energies.judge import Scene, fit_scale, judge
from genseg.energies.material import drawn_of_each
from genseg.measure.representation.measured import quick_measures


def test_it_refuses_what_a_gpu_refuses() -> None:
    with other_device():
        x, y = put(torch.ones(3)), torch.ones(3)
        assert (x + x).device == (x + 1).device == torch.zeros(2, device=x.device).device == DEVICE
        assert x.cpu().device == y.device == torch.device("cpu") and not marked(x.cpu() + y)
        assert marked(y.to(DEVICE) + x) and marked(x[torch.tensor([0])])
        with pytest.raises(RuntimeError, match="same device"):
            x + y
        with pytest.raises(TypeError):
            x.numpy()


@pytest.mark.parametrize(
    "name", ["hmc", "adversarial", "metric", "masked", "kmeans", "mixture", "sparse", "critic"]
)
def test_a_step_and_an_energy_stay_on_their_device(name: str) -> None:
    shaping, seen = put(shaping_of(name)), examples(*SOME)
    with other_device():
        seen = seen.to(DEVICE)
        loss = shaping(seen)["loss"]
        assert marked(loss)
        loss.backward()
        shaping.after_step()
        energy = shaping.model.eval()
        vector = energy.encode(seen.embeddings, seen.maps).codes.vector
        assert marked(energy(seen.embeddings, seen.maps))
        assert marked(energy.prior.sampled(vector.detach(), 3, torch.Generator()))


def test_an_energy_is_judged_there() -> None:
    """Also on pairs of which some show no cut-out alike."""
    energy, seen = put(energy_of("critic").eval()), examples(*SOME)

    def scene(image: int, first: int) -> Scene:
        alpha = seen.maps[seen.maps.image == image].alpha
        return Scene(*put((seen.embeddings[image], alpha, first + torch.arange(len(alpha)))))

    alike, others = (scene(0, 0), scene(1, 0)), (scene(1, 0), scene(2, 9))
    with other_device():
        found = judge(
            energy, [*alike, scene(3, 0)], kinds=["cut", "union"], pairs=[*alike, *others]
        )
        assert 0 <= found.mean_separation <= 1
        fit_scale(energy, alike, kinds=["cut", "erode"])
        assert marked(energy.tau)


def test_a_few_maps_of_each_image_are_drawn_there() -> None:
    """As beside the alpha task, whose composites are on the device."""
    with other_device():
        image = put(torch.tensor([0, 0, 0, 1, 2, 2]))
        few = drawn_of_each(image, 2, Draws(0, 0, range(3)))
        assert marked(few) and image[few].tolist() == [0, 0, 1, 2, 2]


def test_a_training_measures_its_embeddings_from_there() -> None:
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    known = quick_measures(x)
    with other_device():
        assert quick_measures(put(x.clone())) == known
    assert len(known) == 5
    assert quick_measures(x[:2]).keys() <= known.keys()
    assert "uniformity" not in quick_measures(x[:1])

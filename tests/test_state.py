"""The state of a run: packed and unpacked, merged after microbatches, learned entries on their way. Share: 1 s."""
import numpy as np

from npdvae import state
from npdvae.state import TrainState


def arrays(*names):
    return {name: np.full(2, i + 1.0) for i, name in enumerate(names)}


def test_a_packed_state_comes_back():
    for latent in (arrays("mean", "estimator.w"), None):
        before = TrainState(arrays("a", "b"), arrays("m.a", "v.a"), latent, 7)
        packed = state.pack(before)
        assert sorted(packed) == sorted(["params/a", "params/b", "moments/m.a", "moments/v.a",
                                         *(f"estimator/{k}" for k in latent or ())])
        after = state.unpack(packed, 7)
        assert after.step == 7 and after.latent == (latent and packed_part(packed, "estimator/"))
        assert after.params == before.params and after.moments == before.moments
        assert all(packed[f"params/{k}"] is v for k, v in before.params.items())


def packed_part(packed, prefix):
    return {k.removeprefix(prefix): v for k, v in packed.items() if k.startswith(prefix)}


def test_states_of_microbatches_are_averaged_by_size_where_they_differ():
    a, b = {"same": np.array([1.0, 2.0]), "other": np.array([1.0, 2.0])}, {"same": np.array([1.0, 2.0]),
                                                                           "other": np.array([1.0, 6.0])}
    merged = state.merge([(a, 0.75), (b, 0.25)])
    assert merged["same"] is a["same"] and merged["other"].tolist() == [1.0, 3.0]
    assert state.merge([(a, 1.0)]) is a and state.merge([(None, 0.5), (None, 0.5)]) is None
    assert state.merge([(a, 0.25), (a, 0.5)])["other"] is a["other"]     # nothing is rounded that is the same


def test_only_what_a_step_replaced_has_changed():
    before = arrays("a", "b")
    after = {**before, "b": before["b"] + 1, "c": before["a"]}
    assert [k for k, _ in state.changed(before, after)] == ["b", "c"]
    assert state.changed(before, after)[0][1] is after["b"]
    assert state.changed(before, None) == [] and [k for k, _ in state.changed(None, before)] == ["a", "b"]


def test_learned_entries_go_to_the_optimizer_and_come_back():
    latent = arrays("w", "count")
    assert state.learned(latent, {"estimator.w": 0, "encoder.0.weight": 0}) == {"estimator.w": latent["w"]}
    assert state.learned(None, {"estimator.w": 0}) == {} == state.learned(latent, {})
    new = np.zeros(2)
    back, params = state.take_back(latent, {"estimator.w": new, "encoder.0.weight": 1})
    assert params == {"encoder.0.weight": 1} and back.keys() == latent.keys()
    assert back["w"] is new and back["count"] is latent["count"]
    same, params = state.take_back(None, {"a": 1})
    assert same is None and params == {"a": 1}
    assert state.take_back(latent, {"a": 1})[0] is latent

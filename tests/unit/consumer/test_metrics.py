"""The consumer's counts of predictions with a submitted text."""

from prometheus_client import REGISTRY

from services.common.domain.records import Prediction
from services.consumer.worker import _count_errors


def counted(model: str) -> tuple[float | None, float | None]:
    labels = {"engine": "fake", "model_version": model}
    errors, characters = "consumer_character_errors", "consumer_annotated_characters"
    return (
        REGISTRY.get_sample_value(f"{errors}_total", labels),
        REGISTRY.get_sample_value(f"{characters}_total", labels),
    )


def read(text: str, model: str) -> Prediction:
    return Prediction(text=text, engine="fake", model_version=model)


def test_texts_are_compared_in_their_normalised_form() -> None:
    _count_errors(read("K\u00e4se  und Brot", "m1"), " Ka\u0308se und\tBort")

    assert counted("m1") == (2, len("K\u00e4se und Bort"))


def test_image_without_a_text_counts_nothing() -> None:
    _count_errors(read("anything", "m2"), None)

    assert counted("m2") == (0, 0)

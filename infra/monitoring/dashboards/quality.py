"""Dashboard of the prediction quality."""

from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

from infra.monitoring.dashboards.board import Block, dashboard
from infra.monitoring.dashboards.panels import (
    GREEN,
    ORANGE,
    RED,
    Query,
    heat,
    number,
    per_minute,
    quantiles,
    series,
)
from infra.monitoring.rules import critical_threshold

UID = "docreco-quality"
BY_MODEL = "{{engine}} {{model_version}}"
THRESHOLD = Query("ocr:prediction_score:critical_threshold", "critical threshold", is_limit=True)


def build() -> Dashboard:
    """Return the dashboard."""
    return dashboard(
        "Prediction quality",
        uid=UID,
        description="Confidence of the model.",
        since="now-6h",
        blocks=[_now(), _over_time(), _by_model(), _against_annotations(), _review()],
    )


def _now() -> Block:
    mean = number(
        "Mean score",
        "The mean score of the last five minutes, from 0 to 1. Red, under the critical threshold: "
        "predictions of this time are not to be trusted; see the alert OcrMeanScoreCritical in "
        "docs/monitoring.md. No value: nothing was predicted for five minutes.",
        "none",
        Query("ocr:prediction_score:mean5m", "mean score"),
        width=6,
        steps=((None, RED), (critical_threshold(), ORANGE), (0.7, GREEN)),
        decimals=2,
    )
    rate = number(
        "Predictions per minute",
        "How many images are read. Zero while images arrive: look at the Pipeline dashboard for "
        "the first stage that stands still.",
        "none",
        Query("ocr:predictions:per_minute", "predictions per minute"),
        width=6,
    )
    low = number(
        "Low scores in this period",
        "Predictions with a score under the low-score threshold, in the period chosen above. They "
        "are the first to annotate: docreco images shows them, worst first.",
        "short",
        Query("sum(increase(ocr_low_score_predictions_total[$__range]))", "low scores"),
        width=6,
    )
    share = number(
        "Share of low scores",
        "Of the last five minutes. Above 30 % for ten minutes there is an alert: one source among "
        "several is read badly, though the mean may be well.",
        "percentunit",
        Query("ocr:low_score_ratio:5m", "share of low scores"),
        width=6,
        steps=((None, GREEN), (0.15, ORANGE), (0.3, RED)),
    )
    return Block("Now", [mean, rate, low, share])


def _over_time() -> Block:
    mean = series(
        "Mean score over time",
        "The mean of five minutes each; the dashed line is the critical threshold, a blue mark a "
        "new model version. A step down at a mark: go back to the version before. A slope: new "
        "kinds of images arrive; annotate the worst. A week ago is shown for comparison.",
        "none",
        Query("ocr:prediction_score:mean5m", "mean score"),
        Query("ocr:prediction_score:mean5m offset 1w", "a week ago"),
        THRESHOLD,
        top=1,
    )
    rate = series(
        "Predictions per minute over time",
        "How many images are read each minute, and a week ago. A gap while images are stored means "
        "that a stage stands still: look at the Pipeline dashboard.",
        "cpm",
        Query("ocr:predictions:per_minute", "predictions"),
        Query("ocr:predictions:per_minute offset 1w", "a week ago"),
    )
    low = series(
        "Share of low scores over time",
        "The part of the predictions under the low-score threshold, and a week ago. A rise with a "
        "steady mean: one source among several is read badly; compare with the batches of that "
        "time.",
        "percentunit",
        Query("ocr:low_score_ratio:5m", "share of low scores"),
        Query("ocr:low_score_ratio:5m offset 1w", "a week ago"),
        top=1,
    )
    scores = heat(
        "Score distribution",
        "How many predictions had which score. A single warm band near the top is good. A second "
        "band below it is a kind of image that the model does not know: annotate from there.",
        "none",
        Query("sum by (le) (increase(ocr_prediction_score_bucket[$__rate_interval]))", "{{le}}"),
    )
    return Block("Over time", [mean, rate, low, scores])


def _by_model() -> Block:
    mean = series(
        "Mean score by model version",
        "A new version that stays under the one before reads worse, or is more confident for no "
        "reason: compare the character error rates below before believing either.",
        "none",
        Query("ocr_model_version:prediction_score:mean5m", BY_MODEL),
        THRESHOLD,
        width=8,
        top=1,
    )
    rate = series(
        "Predictions per minute by model version",
        "Which version reads how much. Two versions at once, outside of a roll-out, mean that some "
        "replica was not updated.",
        "cpm",
        Query("ocr_model_version:predictions:per_minute", BY_MODEL),
        width=8,
        stacked=True,
    )
    low = series(
        "Share of low scores by model version",
        "A version with a larger share than the one before should be rolled back, unless other "
        "images arrive at the same time.",
        "percentunit",
        Query("ocr_model_version:low_score_ratio:5m", BY_MODEL),
        width=8,
        top=1,
    )
    return Block("By model version", [mean, rate, low])


def _against_annotations() -> Block:
    rate = series(
        "Character error rate, where annotations came along",
        "Wrong, missing and superfluous characters per character of the annotation. This is the "
        "truth that scores only guess: when it rises while scores stay high, the model is wrong "
        "and sure of it. Annotations written later are in the plots below.",
        "percentunit",
        Query(
            "sum by (engine, model_version) "
            "(rate(consumer_character_errors_total[$__rate_interval])) / (sum by (engine, "
            "model_version) (rate(consumer_annotated_characters_total[$__rate_interval])) > 0)",
            BY_MODEL,
        ),
    )
    characters = series(
        "Annotated characters",
        "What the rate beside is computed from. Few characters make a restless line: choose a "
        "longer period before judging.",
        "cps",
        Query(
            "sum by (engine, model_version)"
            " (rate(consumer_annotated_characters_total[$__rate_interval]))",
            BY_MODEL,
        ),
    )
    return Block("Against annotations", [rate, characters, *_all_annotated()])


def _all_annotated() -> list[Builder[Panel]]:
    """The reconciler's counts of all annotated documents."""
    rate = series(
        "Character error rate of all annotated images",
        "Of each image's last prediction, with all annotations. "
        "The worst are annotated first, which makes it higher than of all images; predictions that "
        "people only accepted count as right, which makes it lower. It compares versions; docreco "
        "evaluate gives intervals, and the rate without accepted texts.",
        "percentunit",
        Query("max by (engine, model_version) (reconciler_annotated_cer)", BY_MODEL),
        width=8,
    )
    exact = series(
        "Annotated images read without an error",
        "The share whose last prediction is right in every character. It falls while the error "
        "rate stands still: errors are spread over more images.",
        "percentunit",
        Query("max by (engine, model_version) (reconciler_annotated_exact_ratio)", BY_MODEL),
        width=8,
        top=1,
    )
    images = series(
        "Annotated images",
        "How many the two plots beside are computed from. Under some hundred they are a guess: "
        "annotate more before judging a version.",
        "short",
        Query("max by (engine, model_version) (reconciler_annotated_images)", BY_MODEL),
        width=8,
    )
    return [rate, exact, images]


def _review() -> Block:
    """Work at the review page."""
    annotations = series(
        "Annotations per hour",
        "What people write at the review page, by what they say of the image. Many not_a_line: "
        "the lists bring pages or pictures; many unreadable: look at their source.",
        "none",
        Query(
            "sum by (quality) (rate(review_annotations_total[$__rate_interval])) * 3600",
            "{{quality}}",
        ),
        width=8,
        stacked=True,
    )
    duration = series(
        "Time of the review page to answer",
        "Over 0.2 s people wait for the page rather than it for them: look at MongoDB, and at what "
        "else the machine does.",
        "s",
        *quantiles("review_request_duration_seconds", 0.5, 0.95),
        width=8,
    )
    leases = series(
        "Images handed out per minute",
        "taken; refused, as another person has it; skipped. Many refused: more people than "
        "the filter they chose has images.",
        "cpm",
        per_minute("review_leases_total", by="outcome"),
        width=8,
    )
    return Block("Review", [annotations, duration, leases])

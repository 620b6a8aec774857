"""The tables that the demo prints."""

from __future__ import annotations

from toxicity_api.loadtest_status import LoadTestStatus
from toxicity_api.status import ToxicityModelStatus
from toxicity_cluster.demo_report import bucket_table, duration, load_lines, quality_lines, step_table

LOAD_TEST = LoadTestStatus.model_validate(
    {
        "fingerprint": "abc",
        "runId": "1",
        "state": "Complete",
        "users": 16,
        "requestedRps": 10,
        "buckets": [
            {
                "name": "1-100",
                "requests": 100,
                "failures": 0,
                "actualRps": 9.98,
                "p50Seconds": 0.1,
                "p95Seconds": 0.2,
            },
            {"name": "1001-1100", "requests": 20, "failures": 20, "actualRps": 0.0},
        ],
        "actualRps": 4.99,
        "p95Seconds": 0.2,
        "maxLengthAtRequestedRps": 100,
        "mixed": {"name": "mixed", "requests": 50, "failures": 0, "actualRps": 5.0, "p95Seconds": 0.3},
        "conclusions": {
            "mixedRpsPerReplica": 5.25,
            "basis": "throughput",
            "shareBeyondMaxLength": 0.0,
            "replicasNeeded": 2,
        },
        "replicasAtStart": 1,
        "replicasAtEnd": 2,
    }
)


def test_bucket_table_sums_and_marks_what_is_unset() -> None:
    assert bucket_table(LOAD_TEST) == [
        "CHARACTERS   REQUESTS FAILURES     RPS    P50 s    P95 s    P99 s",
        "1-100             100        0    9.98    0.100    0.200        -",
        "1001-1100          20       20    0.00        -        -        -",
        "all               120       20    4.99             0.200",
        "mixed              50        0    5.00        -    0.300        -",
    ]


def test_conclusions_are_told() -> None:
    one, two = load_lines(LOAD_TEST)[-2:]
    assert "5.25 requests/s" in one and "throughput" in one
    assert two.endswith(": 2")


def test_lines_fit_eighty_columns() -> None:
    lines = [*load_lines(LOAD_TEST), *step_table([("loading the images", 12.0)])]
    assert max(len(line) for line in lines) <= 80


def test_quality_lines_say_what_quantization_cost() -> None:
    status = ToxicityModelStatus.model_validate(
        {
            "training": {"fingerprint": "a", "f1": 0.9, "macroF1": 0.91, "trainSamples": 800, "testSamples": 100},
            "quantization": {
                "fingerprint": "b",
                "f1": 0.88,
                "f1Drop": 0.02,
                "sizeBytes": 388_000_000,
                "originalSizeBytes": 536_000_000,
                "method": "awq",
            },
            "evaluation": {
                "fingerprint": "c", "f1": 0.87, "f1Low": 0.8, "f1High": 0.93, "engine": "vllm 0.32.0",
                "figures": {"weights": "native-4bit", "loadSeconds": 60, "textsPerSecond": 11, "memoryBytes": 1},
                "originalFigures": {
                    "weights": "unquantized", "loadSeconds": 60, "textsPerSecond": 19.2, "memoryBytes": 1,
                },
            },
        }
    )  # fmt: skip
    trained, quantized, served = quality_lines(status)
    assert "F1 0.870" in served and "0.800 to 0.930" in served and "11.0 texts/s, 19.2 before" in served
    assert "F1 0.900" in trained and "ROC-AUC -" in trained and "800 training rows, 100 test rows" in trained
    assert "F1 0.880" in quantized and "drop 0.020" in quantized and "536 -> 388 MB (awq)" in quantized
    assert quality_lines(ToxicityModelStatus.model_validate({})) == []


def test_step_table_adds_up() -> None:
    assert step_table([("one", 30.0), ("two", 157.0)])[-1].split() == ["all", "3", "min", "07", "s"]


def test_duration_rounds_to_what_people_say() -> None:
    assert [duration(s) for s in (0.04, 59.9, 60.0, 187.4)] == ["0.0 s", "59.9 s", "1 min 00 s", "3 min 07 s"]

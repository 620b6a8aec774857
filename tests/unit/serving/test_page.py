"""Test the page in a real browser, and that its data comes only from the stages' folders."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from support.serving.stage_folders import LOAD, png, stage_folders, write
from support.serving.word_engine import HELD_WORD, TOXIC_WORD, UNANSWERED_WORD, WordEngine, ready, wait
from toxicity_api.stage_config import ServingConfig

TOKEN = "page-token"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServingConfig:
    return stage_folders(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def client(config: ServingConfig) -> Iterator[httpx.Client]:
    with ready(config=config) as client:
        yield client


def test_report_has_what_the_stages_left(client: httpx.Client) -> None:
    report = client.get("/v1/report").json()
    assert report["data"]["rows"] == 14412 and report["train_samples"] == 11530
    [bucket] = report["quality"]
    assert [(each["name"], each["rows"], each["f1"]) for each in report["test_sets"]] == [("forum", 210, 0.701)]
    [error] = report["errors"]
    assert (error["error"], error["score"], error["suspicious"]) == ("missed", 0.0893, False)
    assert (bucket["name"], bucket["rows"], bucket["f1"]) == ("1-100", 720, 0.893), "of the quantized model"
    assert report["load_test"]["buckets"][0]["actualRps"] == 9.998
    ids = [plot["id"] for plot in report["plots"]]
    assert ids == ["eda-labels", "eda-labels_len", "evaluation-pr_curve", "loadtest-p95"]


def test_plots_are_the_files_of_the_last_stage_that_has_them(client: httpx.Client) -> None:
    for plot, content in (("eda-labels", png(10)), ("evaluation-pr_curve", png(20)), ("loadtest-p95", png(30))):
        answer = client.get(f"/v1/plots/{plot}")
        assert (answer.headers["content-type"], answer.content) == ("image/png", content)


@pytest.mark.parametrize(
    "path",
    [
        "loadtest-rps",
        "eda-secret",
        "..%2f..%2fresult.json",
        "%2e%2e%2ftrain-t1%2fresult.json",
        "train-t1%2fresult.json",
        "eda%2flabels.png",
        "%00",
        "eda-labels.png",
    ],
)
def test_nothing_else_of_the_volume_can_be_had(client: httpx.Client, path: str) -> None:
    assert client.get(f"/v1/plots/{path}").status_code == 404


def test_link_out_of_the_volume_is_not_followed(tmp_path: Path) -> None:
    config = stage_folders(tmp_path / "artifacts")
    write(tmp_path / "secret.png", png(99))
    (tmp_path / "artifacts" / "train-t1" / "eda" / "len_text_chars.png").symlink_to(tmp_path / "secret.png")
    with ready(config=config) as client:
        assert "eda-len_text_chars" not in client.get("/v1/report").text
        assert client.get("/v1/plots/eda-len_text_chars").status_code == 404


def test_newest_whole_load_test_counts(tmp_path: Path) -> None:
    config = stage_folders(tmp_path)
    older, torn = tmp_path / "loadtest-l1", tmp_path / "loadtest-l3.tmp-x"
    for folder, run in ((older, "1"), (torn, "3")):
        document = LOAD.model_copy(update={"run_id": run})
        write(folder / "status.json", document.model_dump_json(by_alias=True).encode())
    os.utime(older, (1, 1))
    with ready(config=config) as client:
        assert client.get("/v1/report").json()["load_test"]["runId"] == "2"


def test_empty_volume_and_damaged_files_leave_the_report_empty(tmp_path: Path) -> None:
    config = stage_folders(tmp_path)
    for path in list(tmp_path.rglob("*.json")):
        path.write_text('{"buckets": [7]}')
    for path in list(tmp_path.rglob("*.png")):
        path.unlink()
    shutil.rmtree(tmp_path / "quantize-q1")
    with ready(config=config) as client:
        empty = {"data": None, "train_samples": None, "quality": [], "test_sets": [], "errors": []}
        empty |= {"load_test": None, "plots": []}
        assert client.get("/v1/report").json() == empty


def test_page_asks_nobody_else_for_anything(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "http://" not in answer.text and "https://" not in answer.text and "//" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert (
        policy.startswith("default-src 'none'; script-src 'sha256-")
        and "unsafe-inline" not in policy.split(";")[1]
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.fail("Chromium or chromedriver is not on PATH: run `make test-packages` as root, or install both")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1000"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


def text_of(browser: webdriver.Chrome, id_: str) -> str:
    return browser.find_element(By.ID, id_).text


def classify(browser: webdriver.Chrome, text: str) -> None:
    box = browser.find_element(By.ID, "text")
    box.clear()
    box.send_keys(text)
    box.send_keys(Keys.CONTROL, Keys.ENTER)


@contextlib.contextmanager
def held(browser: webdriver.Chrome, prefix: str) -> Iterator[Callable[[], None]]:
    """Hold requests of newly opened pages to this path until the yielded function is called."""
    source = (
        "{ const fetched = window.fetch, held = new Promise(release => window.releaseHeld = release);"
        " window.fetch = async (path, options) => {"
        f" if (path.startsWith('{prefix}')) await held; return fetched(path, options); }} }}"
    )
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": source})
    yield lambda: browser.execute_script("releaseHeld()")
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_browser_shows_card_tables_and_plots(browser: webdriver.Chrome, client: httpx.Client) -> None:
    browser.get(str(client.base_url))
    wait(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".plots img")) == 4)
    pictures = "return [...document.querySelectorAll('.plots img')].map(i => i.naturalWidth)"
    wait(lambda: bool(browser.execute_script(pictures) == [40] * 4))
    assert text_of(browser, "name") == "ru-toxicity" and text_of(browser, "state") == "ready"
    assert "gemma" in text_of(browser, "model") and "0.896 (95 %: 0.876–0.915)" in text_of(browser, "metrics")
    assert "14412" in text_of(browser, "data") and "0.893" in text_of(browser, "quality")
    assert "<b>ну и</b> умник нашёлся" in text_of(browser, "errors")
    assert "forum 210 0.701 0.652 to 0.753 0.714 0.823 0.722" in text_of(browser, "test-sets")
    assert "10.00" in text_of(browser, "load") and "0.181" in text_of(browser, "load")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []  # type: ignore[no-untyped-call]


def test_the_documentation_of_the_api_needs_no_network_either(
    browser: webdriver.Chrome, client: httpx.Client
) -> None:
    assert "//" not in re.sub(r"<!--.*?-->", "", client.get("/docs").text.replace(str(client.base_url), ""))
    browser.get(f"{client.base_url}/docs")
    wait(
        lambda: (
            "/v1/classify" in [line.text for line in browser.find_elements(By.CLASS_NAME, "opblock-summary-path")]
        )
    )
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []  # type: ignore[no-untyped-call]


def test_browser_shows_the_score_against_the_threshold(browser: webdriver.Chrome, client: httpx.Client) -> None:
    browser.get(str(client.base_url))
    classify(browser, f"ты {TOXIC_WORD}")
    wait(lambda: text_of(browser, "verdict") == "Toxic: 0.818")
    width = browser.execute_script(
        "return [fill, limit].map(part => part.getBoundingClientRect().left +"
        " (part === fill ? fill.getBoundingClientRect().width : 1.5))"
    )
    left, whole = browser.execute_script(
        "const r = fill.parentElement.getBoundingClientRect(); return [r.left, r.width]"
    )
    assert [(edge - left) / whole for edge in width] == pytest.approx([0.818, 0.5], abs=0.01)
    classify(browser, "спасибо")
    wait(lambda: text_of(browser, "verdict") == "Not toxic: 0.182")
    classify(browser, "а" * 500)
    wait(lambda: "4 windows" in text_of(browser, "flags"))


def test_what_went_wrong_with_a_text_stays_when_the_report_comes_later(
    browser: webdriver.Chrome, client: httpx.Client
) -> None:
    with held(browser, "v1/report") as release:
        browser.get(str(client.base_url))
        classify(browser, UNANSWERED_WORD)
        wait(lambda: "label token" in text_of(browser, "trouble"))
        release()
        wait(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".plots img[src]")) == 4)
    assert "label token" in text_of(browser, "trouble")
    assert not browser.find_element(By.ID, "answer").is_displayed()
    classify(browser, "спасибо")
    wait(lambda: text_of(browser, "verdict") == "Not toxic: 0.182")
    assert not browser.find_element(By.ID, "trouble").is_displayed()


def test_the_newest_text_is_answered_when_an_older_one_takes_longer(
    browser: webdriver.Chrome, config: ServingConfig
) -> None:
    engine = WordEngine()
    with ready(engine, config=config) as client:
        answered = engine.answered
        browser.get(str(client.base_url))
        classify(browser, f"{HELD_WORD} {TOXIC_WORD}")
        wait(lambda: engine.active == 1)
        assert not browser.find_element(By.ID, "send").is_enabled()
        classify(browser, "спасибо")
        wait(lambda: text_of(browser, "verdict") == "Not toxic: 0.182")
        wait(lambda: engine.active == 0)
        assert engine.answered == answered + 1, "the older request was given up, and the engine with it"
        assert browser.find_element(By.ID, "send").is_enabled()
        assert not browser.find_element(By.ID, "trouble").is_displayed()


def test_a_plot_that_is_gone_is_told_in_its_place(browser: webdriver.Chrome, tmp_path: Path) -> None:
    with ready(config=stage_folders(tmp_path)) as client, held(browser, "v1/plots/eda-labels_len") as release:
        browser.get(str(client.base_url))
        wait(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".plots img")) == 2)
        (tmp_path / "train-t1" / "eda" / "labels_len.png").unlink()
        release()
        wait(lambda: len(browser.find_elements(By.CSS_SELECTOR, ".plots img[src]")) == 3)
        captions = [figure.text for figure in browser.find_elements(By.CSS_SELECTOR, ".plots figure")]
    assert ["no such plot" in caption for caption in captions] == [False, True, False, False]


def test_browser_asks_for_the_token(browser: webdriver.Chrome, config: ServingConfig) -> None:
    with ready(config=config, token=TOKEN) as client:
        browser.get(str(client.base_url))
        wait(lambda: browser.find_element(By.ID, "locked").is_displayed())
        classify(browser, TOXIC_WORD)
        wait(lambda: "token is missing" in text_of(browser, "trouble"))
        assert not browser.find_element(By.ID, "load-trouble").is_displayed(), "the box for the token says it"
        browser.find_element(By.ID, "token").send_keys("another", Keys.ENTER)
        wait(lambda: "token is missing or wrong" in text_of(browser, "load-trouble"))
        browser.find_element(By.ID, "token").clear()
        browser.find_element(By.ID, "token").send_keys(TOKEN, Keys.ENTER)
        wait(lambda: text_of(browser, "name") == "ru-toxicity")
        wait(lambda: not browser.find_element(By.ID, "load-trouble").is_displayed())
        assert not browser.find_element(By.ID, "locked").is_displayed()
        classify(browser, TOXIC_WORD)
        wait(lambda: text_of(browser, "verdict").startswith("Toxic"))


@pytest.mark.parametrize("secret", [TOKEN, "тайна", "\u00ff-secret", "k\U0001f511"])
def test_token_of_any_letters_is_sent_and_a_wrong_one_asked_for_again(
    browser: webdriver.Chrome, config: ServingConfig, secret: str
) -> None:
    """The first wrong token is TOKEN typed with the Russian keyboard layout."""

    def box_is_shown() -> bool:
        return browser.find_element(By.ID, "locked").is_displayed()

    def use(token: str) -> None:
        # set by script, because the driver cannot type characters outside the basic multilingual plane
        browser.execute_script("arguments[0].value = arguments[1]", browser.find_element(By.ID, "token"), token)
        browser.find_element(By.ID, "token").send_keys(Keys.ENTER)

    with ready(config=config, token=secret) as client:
        browser.get(str(client.base_url))
        for wrong in ("зфпу-ещлут", "\u00e9", "\U0001f600"):
            wait(box_is_shown)
            use(wrong)
            wait(lambda: "token is missing or wrong" in text_of(browser, "load-trouble"))
            wait(box_is_shown)
            browser.refresh()
            wait(lambda: "token is missing or wrong" in text_of(browser, "load-trouble"))
            wait(box_is_shown)
        use(secret)
        wait(lambda: text_of(browser, "name") == "ru-toxicity")
        assert not box_is_shown()
        browser.refresh()
        wait(lambda: text_of(browser, "name") == "ru-toxicity")
        classify(browser, TOXIC_WORD)
        wait(lambda: text_of(browser, "verdict").startswith("Toxic"))
        assert not box_is_shown()

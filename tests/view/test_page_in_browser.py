"""The page in a real browser: asked for with `-m browser`, on a machine that has Chromium."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import recurrax as keras
from recurrax import layers, view

_spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
driver = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(driver)

pytestmark = pytest.mark.browser
TEXT = "to be, or not to be"
LETTERS = sorted(set(TEXT))
RIGHT, UP = "\ue014", "\ue013"


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential(
        [
            layers.Embedding(len(LETTERS), 8),
            layers.LSTM(12, return_sequences=True, name="reader"),
            layers.GRU(6, return_sequences=True, name="writer"),
            layers.Dense(len(LETTERS), "softmax"),
        ]
    )
    model(np.zeros((1, 2), int))
    return model


def _write(model, path, **options):
    return view.page(
        model,
        [TEXT, TEXT[:5], "not"],
        path,
        encode=lambda text: [LETTERS.index(letter) for letter in text],
        labels=LETTERS,
        **options,
    )


def _chosen(chrome):
    step, value = chrome.run("return document.querySelector('.token.chosen').title").split(": ")
    return step, float(value)


def _share(bar):
    return float(bar.split("\n")[1].rstrip(" %")) / 100


def test_a_person_can_look_around(model, tmp_path):
    page = _write(model, tmp_path / "page.html", title="Reading </script> & <b>bold</b>")
    found = view.states(model, np.array([[LETTERS.index(letter) for letter in TEXT]]))
    with driver.browser(tmp_path / "profile") as chrome:
        chrome.size(1100, 900)
        chrome.open(page)
        assert chrome.text("h1") == "Reading </script> & <b>bold</b>"
        assert "reader, h of unit 0" in chrome.text("#head")
        assert chrome.run("return document.querySelectorAll('.token').length") == len(TEXT)

        # A click on a token picks the step; the panel shows what is predicted there.
        chrome.click(".token:nth-of-type(4)")
        step, value = _chosen(chrome)
        assert step == "step 3"
        assert abs(value - found["reader"]["h"][0, 3, 0]) < 0.01
        assert "After step 4 of 19: to␣b" in chrome.text("#after")
        probabilities = np.asarray(model(np.array([[LETTERS.index(c) for c in TEXT]])))[0, 3]
        first = chrome.text(".bar")
        assert first.split("\n")[0].replace("␣", " ") == LETTERS[probabilities.argmax()]
        assert abs(_share(first) - probabilities.max()) < 1e-3

        # The keys move on; another layer, value and sample can be chosen.
        chrome.keys(RIGHT + UP)
        assert "of unit 1" in chrome.text("#head")
        assert "After step 5" in chrome.text("#after")
        select = "const s = document.getElementById('{}'); s.value = '{}';"
        change = "s.dispatchEvent(new Event('change'));"
        chrome.run(select.format("layer", "writer") + change)
        chrome.run(select.format("value", "update_gate") + change)
        assert "writer, update gate of unit 1" in chrome.text("#head")
        expected = found["writer"]["update_gate"][0, 4, 1]
        assert abs(_chosen(chrome)[1] - expected) < 0.01
        chrome.run(select.format("sample", "2") + change)
        assert "After step 3 of 3: not" in chrome.text("#after")

        # The map: a click in its upper left corner is the last unit at the first step.
        chrome.run(
            "const m = document.getElementById('map'), b = m.getBoundingClientRect();"
            "m.dispatchEvent(new MouseEvent('click', {clientX: b.left + 2, clientY: b.top + 2}))"
        )
        assert "of unit 5" in chrome.text("#head")
        assert "After step 1 of 3" in chrome.text("#after")
        assert chrome.messages() == []


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_and_a_telephone(model, tmp_path, dark):
    page = _write(model, tmp_path / "page.html", language="ko")
    luminance = "const c = getComputedStyle(document.body).{}.match(/\\d+/g); return +c[0]"
    with driver.browser(tmp_path / "profile", dark) as chrome:
        chrome.size(500, 900)
        chrome.open(page)
        ground = chrome.run(luminance.format("backgroundColor"))
        ink = chrome.run(luminance.format("color"))
        assert (ground < 60 and ink > 200) if dark else (ground > 200 and ink < 60)
        wide = "return document.documentElement.scrollWidth - innerWidth"
        assert chrome.run(wide) <= 0  # nothing sticks out to the side
        assert chrome.text("#side h2") == "모델의 예측"
        chrome.click("#theme")
        assert chrome.run(luminance.format("backgroundColor")) != ground
        chrome.screenshot(tmp_path / "page.png")
        assert chrome.messages() == []


def test_each_layer_over_the_text_that_it_reads(tmp_path):
    source, target = (keras.Input((None,), dtype="int32", name=n) for n in ("source", "target"))
    letters = layers.Embedding(len(LETTERS), 4)
    _, state = layers.GRU(4, return_state=True, name="encoder")(letters(source))
    written = layers.GRU(4, return_sequences=True, name="decoder")(
        letters(target), initial_state=[state]
    )
    model = keras.Model(
        [source, target],
        {"letter": layers.Dense(len(LETTERS), "softmax")(written), "long": layers.Dense(1)(state)},
    )
    page = view.page(
        model,
        [(TEXT, "not"), ("be", "or")],
        tmp_path / "page.html",
        encode=lambda pair: [[LETTERS.index(letter) for letter in text] for text in pair],
        labels={"letter": LETTERS},
    )
    tokens = "return [...document.querySelectorAll('.token')].map((t) => t.textContent).join('')"
    change = "s.dispatchEvent(new Event('change'));"
    with driver.browser(tmp_path / "profile") as chrome:
        chrome.size(1100, 900)
        chrome.open(page)
        assert chrome.run(tokens).replace("␣", " ") == TEXT
        assert "encoder, h of unit 0 over source" in chrome.text("#head")
        assert "goes along target: choose a layer" in chrome.text("#bars")
        chrome.run("const s = document.getElementById('layer'); s.value = 'decoder';" + change)
        assert chrome.run(tokens) == "not"
        assert "At step 3 of 3: not" in chrome.text("#after")
        assert "letter\n" in chrome.text("#bars")
        assert "long\n" in chrome.text("#bars")
        ids = [np.array([[LETTERS.index(c) for c in text]]) for text in (TEXT, "not")]
        best = np.asarray(model(ids)["letter"])[0, 2].max()
        assert abs(_share(chrome.text(".bar")) - best) < 1e-3
        chrome.click(".token:nth-of-type(1)")
        assert "Known only after the last step." in chrome.text("#bars")
        chrome.run("const s = document.getElementById('sample'); s.value = '1';" + change)
        assert chrome.run(tokens) == "or"
        assert chrome.messages() == []

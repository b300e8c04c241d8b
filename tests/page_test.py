"""The page in Chromium: what it asks of the endpoint, what it shows, and what it says when things go wrong."""

import functools
import http.server
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fake_endpoint import FakeEndpoint, FakeModel
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "serving" / "page"
webdriver = pytest.importorskip("selenium.webdriver")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="needs chromium and chromedriver (on Debian: apt-get install chromium chromium-driver)",
)

MODELS = {
    "cifar10_gan": FakeModel(),
    "cifar10_vae": FakeModel(vae=True),
    "lfw_gan": FakeModel(num_classes=0, resolution=45),
    "lfw_vae": FakeModel(vae=True, num_classes=0, resolution=45),
    "other": FakeModel(num_classes=3),  # one that models.json does not list
}
# Pauses of seconds pass in tens of milliseconds.
HURRY = "const later = setTimeout; window.setTimeout = (run, ms, ...rest) => later(run, ms / 50, ...rest);"
# The colour in the middle of each picture of a grid, as [red, green, blue].
COLOURS = """
return [...document.querySelectorAll(arguments[0] + ' img, ' + arguments[0] + ' canvas')].map((picture) => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const context = canvas.getContext('2d');
  const side = picture.naturalWidth || picture.width;
  context.drawImage(picture, Math.floor(side / 2), Math.floor(side / 2), 1, 1, 0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
});
"""


@pytest.fixture(scope="session")
def page_url():
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=PAGE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("headless=new", "disable-gpu", "disable-dev-shm-usage", "window-size=1300,1000", "no-first-run"):
        options.add_argument(f"--{argument}")
    if os.geteuid() == 0:  # Chromium refuses to sandbox itself as root
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": HURRY})
    yield driver
    driver.quit()


@pytest.fixture
def endpoint():
    with FakeEndpoint(MODELS) as fake:
        yield fake


class Page:
    """The page in the browser, as a reader sees and uses it."""

    def __init__(self, chromium, url, endpoint_url):
        self.chromium, self.url, self.endpoint_url = chromium, url, endpoint_url

    def open(self, query=""):
        self.chromium.get("about:blank")  # so that nothing of the page before is still under way
        self.chromium.get(f"{self.url}?endpoint={self.endpoint_url}&{query}")
        return self

    def find(self, selector):
        return self.chromium.find_element("css selector", selector)

    def texts(self, selector):
        """What can be read in each element, all at one moment; "" for what is hidden."""
        return self.chromium.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map((e) => (e.checkVisibility() ? e.innerText.trim() : ''))",
            selector,
        )

    def colours(self, selector):
        return self.chromium.execute_script(COLOURS, selector)

    def set(self, name, value):
        """Gives a control a value as typing and choosing do: the events included."""
        self.chromium.execute_script(
            "const c = document.getElementById(arguments[0]); c.value = arguments[1];"
            "c.dispatchEvent(new Event('input', {bubbles: true})); c.dispatchEvent(new Event('change', {bubbles: true}));",
            name,
            str(value),
        )

    def until(self, check, seconds=20):
        """Waits until `check()` is true, and returns what it gave."""
        end = time.monotonic() + seconds
        while True:
            value = check()
            if value or time.monotonic() > end:
                assert value, f"not within {seconds} s; the page shows: {self.find('body').text}"
                return value
            time.sleep(0.02)

    def drawn(self, number=16):
        """Waits until both grids hold that many pictures and nothing is under way."""
        self.until(
            lambda: self.chromium.execute_script(
                "return ['left', 'right'].every((side) => document.querySelectorAll(`#grid-${side} img`).length === arguments[0])"
                " && !document.querySelector('[aria-busy]')",
                number,
            )
        )
        return self


@pytest.fixture
def page(chromium, page_url, endpoint):
    return Page(chromium, page_url, endpoint.url)


def samples(endpoint, model):
    return [body["inputs"] for body in endpoint.predictions(model) if body["signature_name"] == "sample"]


def decodes(endpoint, model):
    return [body["inputs"] for body in endpoint.predictions(model) if body["signature_name"] == "decode"]


def test_gan_and_vae_stand_side_by_side_with_the_same_seeds(page, endpoint):
    page.open("class=2&truncation=0.5&seed=7").drawn()
    for side, model, tag in (("left", "cifar10_gan", "GAN"), ("right", "cifar10_vae", "VAE")):
        (asked,) = samples(endpoint, model)
        assert asked == {"seed": list(range(7, 23)), "truncation": [0.5] * 16, "label": [2] * 16}
        assert page.colours(f"#grid-{side}") == [[seed, 40, 50] for seed in range(7, 23)]
        assert page.find(f"#grid-{side} figcaption").text.startswith(f"{tag} {model} version 3, 16 pictures in")
    assert page.find("#grid-left img:nth-of-type(3)").get_attribute("alt") == "seed 9, bird"
    boxes = [page.find(f"#grid-{side}").rect for side in ("left", "right")]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] + boxes[0]["width"] <= boxes[1]["x"]


def test_pixels_are_shown_as_crisp_squares_of_whole_screen_pixels(page):
    page.open("left=lfw_gan&right=cifar10_vae").drawn()
    for side, pixels in (("left", 45), ("right", 32)):
        image = page.find(f"#grid-{side} img")
        page.until(lambda image=image, pixels=pixels: image.size["width"] > pixels)
        assert image.value_of_css_property("image-rendering") == "pixelated"
        assert image.size["width"] % pixels == 0 and image.size["width"] == image.size["height"]


def test_each_control_redraws_both_grids(page, endpoint):
    from selenium.webdriver.common.keys import Keys

    page.open().drawn()
    for change, key, value in (
        (lambda: page.set("class", 9), "label", 9),
        (lambda: page.find("#truncation").send_keys(Keys.ARROW_LEFT), "truncation", 0.9),
        (lambda: page.find("#truncation").send_keys(Keys.END), "truncation", 8),  # none
        (lambda: page.find("#next").click(), "seed", 16),
        (lambda: page.set("seed", 5), "seed", 5),
    ):
        change()
        for model in ("cifar10_gan", "cifar10_vae"):
            page.until(lambda model=model, key=key, value=value: samples(endpoint, model)[-1][key][0] == value)
    page.set("count", 9)
    page.drawn(9)
    assert page.texts("#truncation-value") == ["none"]
    page.find("#random").click()
    page.until(lambda: samples(endpoint, "cifar10_vae")[-1]["seed"][0] != 5)
    page.drawn(9)
    assert samples(endpoint, "cifar10_gan")[-1]["seed"] == samples(endpoint, "cifar10_vae")[-1]["seed"]


def test_only_the_newest_of_quick_changes_is_shown(page, endpoint):
    page.open().drawn()
    endpoint.hold.clear()
    page.set("seed", 50)
    page.until(lambda: samples(endpoint, "cifar10_gan")[-1]["seed"][0] == 50)
    page.set("seed", 90)
    page.until(lambda: samples(endpoint, "cifar10_gan")[-1]["seed"][0] == 90)
    assert page.find("#grid-left").get_attribute("aria-busy") == "true"
    endpoint.hold.set()
    page.drawn()
    assert page.colours("#grid-left")[0][0] == 90


def test_every_class_stands_in_a_row_of_its_own_with_the_same_seeds(page, endpoint):
    page.open("class=all&seed=3").drawn(40)
    asked = samples(endpoint, "cifar10_gan")
    assert [len(part["seed"]) for part in asked] == [32, 8]  # no request has more rows than a batching server takes
    assert page.colours("#grid-left") == [[seed, 20 * label, 100] for label in range(10) for seed in (3, 4, 5, 6)]
    assert page.texts("#grid-left .row-name")[:2] == ["airplane", "automobile"]


def test_models_without_labels_have_no_class_and_are_sent_none(page, endpoint):
    page.open("left=lfw_gan&right=lfw_vae&class=3").drawn()
    assert not page.find("#class-field").is_displayed()
    assert all("label" not in body["inputs"] for body in endpoint.predictions())


def test_classes_without_names_are_numbers_and_an_unknown_one_is_said(page, endpoint):
    page.open("left=other&right=lfw_gan&class=2").drawn()
    assert page.find("#class-number").is_displayed() and not page.find("#class").is_displayed()
    assert samples(endpoint, "other")[0]["label"] == [2] * 16
    assert page.texts("#grids .tag") == ["", "GAN"]  # a model that models.json does not list has no title
    page.set("class-number", 3)
    page.until(lambda: page.texts("#grid-left .problem") == ["other cannot draw class 3: it has no such class."])
    page.set("class-number", 1)
    page.until(lambda: not page.find("#grid-left .problem").is_displayed())


def test_both_models_decode_the_same_way_between_two_latents_on_the_sphere(page, endpoint):
    page.open("from=11&to=12&truncation=2.1").drawn()
    ways = {model: np.array(decodes(endpoint, model)[0]["z"]) for model in ("cifar10_gan", "cifar10_vae")}
    np.testing.assert_array_equal(ways["cifar10_gan"], ways["cifar10_vae"])
    way = ways["cifar10_gan"]
    # Equal angles, and no length below both ends', as a straight line's middle has.
    unit = way / np.linalg.norm(way, axis=1, keepdims=True)
    angles = np.arccos((unit[:-1] * unit[1:]).sum(1))
    assert len(way) == 9 and np.all(np.linalg.norm(way, axis=1) > 0.9 * np.linalg.norm(way[[0, -1]], axis=1).min())
    assert angles.min() > 0 and np.all(np.diff(np.linalg.norm(way, axis=1)) > -1)
    assert np.isclose(angles.sum(), np.arccos((unit[0] * unit[-1]).sum()), atol=1e-6)
    expected = [[int(c) for c in np.clip(128 + 30 * z[:2], 0, 255)] for z in way]
    assert [colour[:2] for colour in page.colours("#ways figure:first-child")] == expected

    page.set("from", 12)  # the same number is the same latent, wherever it stands and whenever it is drawn
    page.until(lambda: len(decodes(endpoint, "cifar10_gan")) == 2)
    np.testing.assert_allclose(decodes(endpoint, "cifar10_gan")[1]["z"], way[[-1] * 9], atol=1e-9)


def test_the_page_s_latents_are_normal_and_stay_within_the_truncation(page, chromium):
    page.open().drawn()
    draw = "import('./latents.js').then((m) => arguments[1](arguments[0].map(([s, t]) => m.latent(s, 400, t))))"
    drawn = np.array(chromium.execute_async_script(draw, [[seed, 8] for seed in range(60)]))
    # 24,000 draws: the standard errors are 0.006 for the mean, 0.009 for the variance, 0.03 for the fourth moment.
    assert abs(drawn.mean()) < 0.03 and abs(drawn.var() - 1) < 0.04 and abs((drawn**4).mean() - 3) < 0.2
    correlations = np.corrcoef(drawn)[np.triu_indices(60, 1)]
    assert np.abs(correlations).max() < 0.25  # seeds do not resemble each other
    cut = np.array(chromium.execute_async_script(draw, [[seed, 0.1] for seed in range(5)]))
    assert np.abs(cut).max() <= 0.1 and 0.05 < cut.std() < 0.065  # uniform on +-0.1 nearly: 0.0577


@pytest.fixture
def wide_picture(tmp_path):
    """128 x 64 px, its middle square white and the rest black."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, 32:96] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    return str(tmp_path / "wide.png")


def test_an_uploaded_picture_is_cropped_resized_and_reconstructed_by_the_vae(page, endpoint, wide_picture):
    page.open("left=lfw_vae&right=lfw_gan").drawn()
    page.find("#file").send_keys(wide_picture)
    page.until(
        lambda: page.colours("#own") == [[255, 255, 255], [0, 0, 0]]
    )  # the fake's reconstruction is the negative
    (asked,) = [body["inputs"] for body in endpoint.predictions("lfw_vae") if body["signature_name"] == "reconstruct"]
    assert np.array_equal(asked["image"], np.full((1, 45, 45, 3), 255))
    assert page.texts("#own figcaption") == ["wide.png at 45 px, then what lfw_vae keeps of it"]


def test_two_uploaded_pictures_also_show_the_way_between_them(page, endpoint, wide_picture, tmp_path):
    Image.fromarray(np.full((32, 32, 3), [51, 102, 0], np.uint8)).save(tmp_path / "plain.png")
    page.open("class=4").drawn()
    page.find("#file").send_keys(f"{wide_picture}\n{tmp_path / 'plain.png'}")
    page.until(lambda: len(page.texts("#own figure")) == 3)
    way = decodes(endpoint, "cifar10_vae")[-1]
    np.testing.assert_allclose([z[:2] for z in (way["z"][0], way["z"][-1])], [[1, 1], [0.2, 0.4]], atol=1e-6)
    assert way["label"] == [4] * 9
    assert page.texts("#own figcaption")[0] == "wide.png at 32 px, then what cifar10_vae keeps of it, as deer"


def test_a_file_that_is_no_picture_and_a_pair_without_a_vae_are_said(page, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    page.open().drawn()
    page.find("#file").send_keys(str(tmp_path / "notes.txt"))
    page.until(
        lambda: (
            page.texts("#own .problem")
            == ["notes.txt: this browser cannot read that as a picture. Expected PNG, JPEG or the like."]
        )
    )
    page.open("left=lfw_gan&right=cifar10_gan").drawn()
    assert page.texts("#own .problem") == ["Neither model can do this: choose one with an encoder, such as a VAE."]
    assert not page.find("#file").is_displayed()


def test_an_endpoint_that_is_away_is_said_and_found_when_it_comes(page, endpoint):
    port = endpoint.server.server_port
    endpoint.__exit__()
    page.open()
    message = page.until(lambda: page.texts("#message p")[0])
    assert message.startswith(f"No answer from http://127.0.0.1:{port}. Is the endpoint running")
    assert page.find("#message button").text == "Try again"
    with FakeEndpoint(MODELS, port=port):
        page.drawn()
        assert not page.find("#message").is_displayed()


def test_an_endpoint_that_does_not_let_pages_ask_names_the_flag(page, endpoint):
    endpoint.cors = False
    page.open()
    page.until(lambda: "--rest_api_enable_cors_support" in page.find("#message").text)


def test_a_busy_endpoint_is_asked_again_and_then_given_up_with_a_button(page, endpoint):
    page.open().drawn()
    endpoint.failures = [(503, "queue full")] * 2
    page.set("seed", 30)
    page.until(lambda: page.colours("#grid-left")[0][0] == 30 and not page.find("#message").is_displayed())

    endpoint.failures = [(429, "queue full")] * 100
    page.set("seed", 40)
    page.until(
        lambda: page.find("#message").text.startswith("The endpoint is busy (queue full). Gave up after 5 tries.")
    )
    assert len(endpoint.failures) <= 100 - 5
    endpoint.failures = []
    page.find("#message button").click()
    page.until(lambda: page.colours("#grid-left")[0][0] == 40 and not page.find("#message").is_displayed())


def test_an_unknown_model_is_said_in_its_column_and_the_other_one_draws(page, endpoint):
    page.open("left=half")
    page.until(lambda: len(page.texts("#grid-right img")) == 16)
    text = "The endpoint has no model “half”, or has not loaded it yet (Could not find any versions of model half)."
    assert page.texts("#grid-left .problem") == [text] and page.texts("#grid-left img") == []
    page.set("left", "lfw_gan")
    page.drawn()
    assert not page.find("#grid-left .problem").is_displayed()


def test_a_refusal_keeps_the_server_s_words(page, endpoint):
    page.open().drawn()
    endpoint.failures = [(400, "input keys are wrong")] * 4
    page.set("seed", 1)
    page.until(
        lambda: page.texts("#grid-left .problem") == ["The endpoint refused the request (400: input keys are wrong)."]
    )


def test_the_address_holds_what_is_shown(page, chromium, endpoint):
    page.open("left=lfw_gan&right=cifar10_vae&count=9").drawn(9)
    page.set("seed", 123)
    page.set("class", "all")
    page.until(lambda: len(page.texts("#grid-right img")) == 30)
    address, shown = chromium.current_url, page.colours("#grid-right")
    chromium.get("about:blank")
    chromium.get(address)
    page.until(lambda: page.colours("#grid-right") == shown)
    assert page.find("#left").get_attribute("value") == "lfw_gan"


def test_numbers_that_cannot_be_are_not_sent(page, endpoint):
    page.open().drawn()
    asked = len(endpoint.requests)
    page.set("seed", -1)
    page.set("from", "")
    time.sleep(0.3)
    assert len(endpoint.requests) == asked


def test_it_needs_nothing_from_elsewhere_and_reports_no_error(page, chromium, page_url, endpoint, wide_picture):
    page.open().drawn()
    chromium.get_log("browser")
    page.open().drawn()
    page.find("#file").send_keys(wide_picture)
    page.until(lambda: len(page.colours("#own")) == 2)
    loaded = chromium.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith((page_url, endpoint.url, "data:")) for name in loaded), loaded
    assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
    for file in PAGE.iterdir():
        text = file.read_text()
        assert "//cdn" not in text and "@import" not in text and "https://" not in text, file


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(page, chromium):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.open("class=1").drawn()
    controls = chromium.find_elements("css selector", "input, select, button, a[href]")
    visible = [control for control in controls if control.is_displayed()]
    assert all(control.accessible_name for control in visible)
    reached = set()
    for _ in range(len(visible) + 3):
        ActionChains(chromium).send_keys(Keys.TAB).perform()
        reached.add(chromium.switch_to.active_element.get_attribute("id"))
    assert {control.get_attribute("id") for control in visible} - reached - {""} == set()


def test_a_narrow_screen_needs_no_sideways_scrolling_and_dark_is_dark(page, chromium):
    def features(**values):
        chromium.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": values["scheme"]}]}
        )

    try:
        chromium.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 360, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        )
        for scheme, dark in (("light", False), ("dark", True)):
            features(scheme=scheme)
            page.open("class=all&count=36").drawn(60)
            widths = chromium.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
            assert widths == [360, 360]
            ground = chromium.execute_script(
                "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
            )
            assert (max(ground) < 64) == dark and (min(ground) > 192) == (not dark)
            boxes = [page.find(f"#grid-{side}").rect for side in ("left", "right")]
            assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    finally:
        chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        features(scheme="")


def test_it_works_with_the_endpoint_of_the_project_and_shows_what_other_clients_get(
    page, gan, vae, tmp_path, wide_picture
):
    import base64

    import requests
    from endpoint_toys import endpoint as stand_in
    from endpoint_toys import flags_of_models

    folders = {"gan": gan[0].parent, "vae": vae[0].parent}
    flags = flags_of_models(folders, tmp_path / "models.config")
    with stand_in(*flags, "--rest_api_enable_cors_support") as running:
        running.wait_for_line("REST http")
        for name in folders:
            running.wait_for(lambda name=name: running.states(name) == {1: "AVAILABLE"})
        page.endpoint_url = running.url
        page.open("left=gan&right=vae&class=4&seed=20&truncation=0.7").drawn()
        rows = [{"seed": seed, "label": 4, "truncation": 0.7} for seed in range(20, 36)]
        answer = requests.post(f"{running.url}/v1/models/gan:predict", json={"instances": rows}, timeout=60).json()
        shown = page.chromium.execute_script(
            "return [...document.querySelectorAll('#grid-left img')].map((i) => i.src)"
        )
        expected = [base64.b64decode(row["b64"]) for row in answer["predictions"]]
        assert [base64.b64decode(source.partition(",")[2]) for source in shown] == expected
        assert len(page.colours("#ways")) == 18
        page.find("#file").send_keys(wide_picture)
        page.until(lambda: len(page.colours("#own")) == 2)
        page.set("class-number", 10)
        page.until(lambda: page.texts("#grid-left .problem") == ["gan cannot draw class 10: it has no such class."])
        assert len(page.texts("#grid-right img")) == 16

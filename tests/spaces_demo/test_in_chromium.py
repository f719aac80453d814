"""The Space in a real browser: from the first choice to a rated explanation, by mouse, by keyboard, on a phone."""

import json
import shutil
import time

import pytest
from llm4rec.training.online.feedback_log import FeedbackLog

pytestmark = pytest.mark.slow

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'llm4rec[dev]'")
CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
DRIVER = shutil.which("chromedriver")
SECONDS = 30
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>${window.hacked=1}{{window.hacked=1}}'


class Visit:
    """A page and what one does on it."""

    def __init__(self, driver, url):
        self.driver = driver
        driver.get(url)
        self.until(lambda: len(self.cards()) == 10)

    def until(self, holds):
        """Wait for something to be true, and give it back."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                if found := holds():
                    return found
            except Exception as error:  # the page changes while it is read
                if type(error).__name__ != "StaleElementReferenceException":
                    raise
            time.sleep(0.05)
        raise AssertionError(f"still not true after {SECONDS} seconds; the page says: {self.text('body')[:2000]}")

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def text(self, css):
        return self.driver.execute_script("return document.querySelector(arguments[0])?.textContent || ''", css)

    def cards(self):
        return self.driver.execute_script(
            "return [...document.querySelectorAll('#cards .card')].map(card => card.dataset.item)"
        )

    def press(self, css):
        self.until(lambda: self.all(css))
        self.driver.execute_script(
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'}); e.click()", css
        )

    def write(self, css, text):
        field = self.until(lambda: [one for one in self.all(css) if one.is_displayed()])[0]
        field.clear()
        field.send_keys(text)

    def tab(self, name):
        tabs = {one.get_attribute("textContent").strip(): one for one in self.all("[role=tab]")}
        if name not in tabs:  # on a narrow page the last ones are behind a button
            self.press(".overflow-menu > button")
            self.until(lambda: [one for one in self.all(".overflow-dropdown button") if one.text.strip() == name])
            tabs = {one.text.strip(): one for one in self.all(".overflow-dropdown button")}
        self.driver.execute_script("arguments[0].click()", tabs[name])

    def choose(self, word):
        """Search for a word and add what is found first."""
        before = len(self.all("#history .rows li"))
        self.write("#search textarea, #search input", word)
        self.until(lambda: word in self.text("#results .rows li:first-child"))
        self.press("#results button[data-act=add]")
        self.until(lambda: len(self.all("#history .rows li")) == before + 1)

    def complaints(self):
        """Errors on the console."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def driver():
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def visit(driver, app):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    driver.get_log("browser")
    return Visit(driver, app[0])


def test_a_whole_visit(visit, app):
    for word in ("lantern", "tent", "stove"):
        visit.choose(word)
    visit.until(lambda: "from 3 chosen items" in visit.text("#status"))
    assert len(visit.cards()) == 10
    reasons = visit.driver.execute_script(
        "return [...document.querySelectorAll('#cards .card')].map(c => [c.querySelector('h3').textContent, "
        "c.querySelector('.reason').textContent, c.querySelectorAll('.bars li').length])"
    )
    assert all(title in reason and bars for title, reason, bars in reasons)

    before = visit.cards()
    visit.write("#popularity input[type=number]", "2.5")
    visit.all("#popularity input[type=number]")[0].send_keys("\t")
    visit.until(lambda: visit.cards() != before)

    first = visit.cards()[0]
    visit.press("#cards button[data-act=dislike]")
    visit.until(lambda: first not in visit.cards() and len(visit.cards()) == 10)
    with FeedbackLog(app[1].settings.feedback_log) as log:
        assert first in [one.event.item_id for one in log.events() if one.event.kind == "dislike"]

    before = visit.cards()
    visit.press("#cards button[data-act=like]")
    visit.until(lambda: len(visit.all("#history .rows li")) == 4 and visit.cards() != before)

    visit.press("#cards button[data-act=why]")
    visit.until(lambda: "It is on your list" in visit.text("#answer"))

    visit.tab("New item")
    visit.write("#new-title textarea, #new-title input", "Quetzal 7 sky tent")
    visit.write("#new-category input", "tents")
    visit.until(lambda: [one for one in visit.all("[role=option]") if one.text.strip().endswith("tents")])
    visit.all("#new-category input")[0].send_keys("\ue007")
    visit.press("#add-item")
    visit.until(lambda: "Added for you alone" in visit.text("#added"))
    visit.tab("For you")
    visit.choose("Quetzal")
    assert "Quetzal 7 sky tent" in visit.text("#history")

    visit.tab("Study")
    visit.until(lambda: visit.text("#explanation-b"))
    shown = visit.text("#trial")
    for radio in ("trust-a", "usefulness-a", "trust-b", "usefulness-b"):
        visit.press(f"#{radio} input[value='4']")
    visit.press("#save-rating")
    visit.until(lambda: "Saved, thank you" in visit.text("#study-status"))
    assert shown
    (line,) = app[1].study.path.read_text().splitlines()
    assert json.loads(line)["trust"] == [4, 4]
    assert not visit.all("#trust-a input:checked")
    assert visit.complaints() == []


def test_without_ratings_nothing_is_saved_and_the_page_says_what_to_do(visit, app):
    before = len(app[1].study.judgements())
    visit.tab("Study")
    visit.until(lambda: visit.text("#explanation-b"))
    visit.press("#save-rating")
    visit.until(lambda: "rate both explanations first" in visit.text("body"))
    assert len(app[1].study.judgements()) == before


def test_the_keyboard_is_enough(visit):
    keys = webdriver.Keys
    visit.driver.execute_script("document.querySelector('#search textarea, #search input').focus()")
    active = lambda: visit.driver.switch_to.active_element  # noqa: E731
    active().send_keys("lantern")
    visit.until(lambda: "lantern" in visit.text("#results .rows li:first-child"))
    active().send_keys(keys.TAB)
    visit.until(lambda: active().get_attribute("data-act") == "add")
    assert visit.driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    active().send_keys(keys.ENTER)
    visit.until(lambda: len(visit.all("#history .rows li")) == 1)
    # The pressed button is gone; the next one of its kind has the focus.
    visit.until(lambda: active().get_attribute("data-act") == "add")
    active().send_keys(keys.SPACE)
    visit.until(lambda: len(visit.all("#history .rows li")) == 2)
    visit.driver.execute_script("document.querySelector('#cards button[data-act=dislike]').focus()")
    first = visit.cards()[0]
    active().send_keys(keys.ENTER)
    visit.until(lambda: first not in visit.cards())
    visit.until(lambda: active().get_attribute("data-act") == "dislike")
    why = next(one for one in visit.all("[role=tab]") if one.text == "Why not?")
    why.send_keys(keys.ENTER)
    visit.until(lambda: why.get_attribute("aria-selected") == "true")
    assert visit.complaints() == []


def test_a_title_that_is_not_clear_offers_what_may_be_meant(visit):
    visit.tab("Why not?")
    visit.write("#asked textarea, #asked input", "Quillback tent")
    visit.press("#ask")
    visit.until(lambda: len(visit.all("#answer button[data-act=ask]")) > 1)
    title = visit.text("#answer button[data-act=ask]")
    visit.press("#answer button[data-act=ask]")
    visit.until(lambda: visit.text("#answer h3") == title)


def test_injected_script_stays_text(visit):
    visit.write("#search textarea, #search input", HOSTILE[:100])
    visit.tab("New item")
    visit.write("#new-title textarea, #new-title input", HOSTILE[:120])
    visit.write("#new-category input", "tents")
    visit.until(lambda: [one for one in visit.all("[role=option]") if one.text.strip().endswith("tents")])
    visit.all("#new-category input")[0].send_keys("\ue007")
    visit.press("#add-item")
    visit.until(lambda: "Added for you alone" in visit.text("#added"))
    assert HOSTILE[:60] in visit.text("#added")
    visit.tab("For you")
    visit.write("#search textarea, #search input", "onerror hacked script")
    visit.until(lambda: "hacked" in visit.text("#results .rows li:first-child"))
    visit.press("#results button[data-act=add]")
    visit.until(lambda: "hacked" in visit.text("#history"))
    visit.tab("Why not?")
    visit.write("#asked textarea, #asked input", HOSTILE[:50])
    visit.press("#ask")
    visit.until(lambda: "Which item?" in visit.text("#answer"))
    time.sleep(0.5)
    assert visit.driver.execute_script("return window.hacked === undefined")
    assert not visit.all("#results img, #history img, #added img, #cards img, .toast-wrap img")
    assert visit.complaints() == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_wider_than_a_phone(visit, app, theme):
    visit.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    )
    phone = Visit(visit.driver, f"{app[0]}?__theme={theme}")
    for word in ("lantern", "tent", "stove"):
        phone.choose(word)
    phone.press("#cards .card summary")
    for name in ("For you", "Why not?", "New item", "Study", "About"):
        phone.tab(name)
        time.sleep(1)
        assert phone.driver.execute_script("return document.documentElement.scrollWidth") <= 390, name
    assert phone.complaints() == []


def test_a_visitor_sees_nothing_of_another(visit, app, driver):
    visit.choose("lantern")
    driver.switch_to.new_window("tab")
    other = Visit(driver, app[0])
    assert "No history yet" in other.text("#history")
    driver.close()
    driver.switch_to.window(driver.window_handles[0])
    assert len(visit.all("#history .rows li")) == 1

"""Driving a real browser: headless Chromium without a network, with all that its console says; and WebKit."""

import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def browser(width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Any]:
    """A Chromium of this window size, offline. Skips the test where selenium or the browser is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no Chromium: install Debian's chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        chrome.execute_cdp_cmd("Network.enable", {})
        chrome.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        view(chrome, width, height, dark)
        yield chrome
    finally:
        chrome.quit()


@contextmanager
def webkit() -> Iterator[Any]:
    """The engine of Safari. Skips the test where selenium, WebKitGTK's driver or a screen for it is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver, found = shutil.which("WebKitWebDriver"), sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
    if not driver or not found or not (xvfb := shutil.which("Xvfb")):
        pytest.skip("no WebKit: install Debian's webkit2gtk-driver and xvfb")
    options = webdriver.WebKitGTKOptions()
    options.binary_location = str(found[-1])
    options.add_argument("--automation")
    screen = [xvfb, "-displayfd", "1", "-screen", "0", "1600x1200x24"]
    with subprocess.Popen(screen, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            display = f":{int(server.stdout.readline())}"
            service = webdriver.WebKitGTKService(driver, env=os.environ | {"DISPLAY": display})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of selenium's own call
                safari = webdriver.WebKitGTK(options=options, service=service)
            try:
                yield safari
            finally:
                safari.quit()
        finally:
            server.terminate()


def view(chrome: Any, width: int, height: int = 900, dark: bool = False) -> None:
    """Another window size, in light or dark."""
    phone = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})


def saved(chrome: Any, path: Path) -> str:
    """The address of the page as a browser saves it to disk: with what its scripts have made."""
    path.write_text(f"<!doctype html>{chrome.execute_script('return document.documentElement.outerHTML')}", "utf-8")
    return path.as_uri()


def linear(value: int) -> float:
    """A channel of an sRGB colour, 0 to 255, as the intensity of its light, 0 to 1."""
    v = value / 255
    return v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4


def contrast(*colours: str) -> float:
    """The ratio of WCAG for two colours as a browser gives them: "rgb(28, 31, 35)"."""
    light = []
    for colour in colours:
        r, g, b = (linear(int(v)) for v in re.findall(r"\d+", colour)[:3])
        light.append(0.2126 * r + 0.7152 * g + 0.0722 * b)
    return (max(light) + 0.05) / (min(light) + 0.05)


def console(chrome: Any) -> list[str]:
    """What the console has said since it was last asked."""
    return [entry["message"] for entry in chrome.get_log("browser")]

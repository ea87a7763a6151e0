"""Exported styles in a real browser, by the page that launch/web.sh serves: what it computes."""

import io

import browser_helpers
import helpers
import numpy as np
import pytest
from PIL import Image, ImageOps

import metastyle_jax

browser, playwright = browser_helpers.browser, browser_helpers.playwright
style, model = browser_helpers.style, browser_helpers.model
folder, address = browser_helpers.folder, browser_helpers.address
SIZES = [(16, 16), (37, 23), (24, 40)]  # height, width
RUN = """async ({ sizes, noise }) => {
  const { load, stylize } = await import('./stylize.js');
  const style = await load('./samples/style.onnx');
  const made = [];
  for (const [i, [height, width]] of sizes.entries()) {
    made.push(Array.from(await stylize(style, new Float32Array(noise[i]), height, width)));
  }
  const small = new Float32Array(3 * 15 * 20);
  const refused = await stylize(style, small, 15, 20).catch((error) => error.message);
  return { made, refused };
}"""
# Keeps the device of WebGPU within reach, so that it can be lost.
KEEP_DEVICE = """() => {
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (options) {
    return (self.device = await request.call(this, options));
  };
}"""


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.png'
    path.write_bytes(browser_helpers.picture())
    return path


def levels(style, picture):
    """What JAX makes of a picture, in levels of 8 bits."""
    return np.rint(255 * metastyle_jax.stylize(style, picture))


def difference(canvas, wanted):
    return np.max(np.abs(canvas[..., :3].astype(float) - wanted))


def test_the_module_gives_the_pixels_of_jax(browser, address, style, disagreement):
    rng = np.random.default_rng(0)
    noise = [rng.random((*size, 3), np.float32) for size in SIZES]
    with browser_helpers.Page(browser, address) as page:
        said = page.tab.evaluate(
            RUN, {'sizes': SIZES, 'noise': [pixels.ravel().tolist() for pixels in noise]}
        )
        assert not page.errors
    for pixels, made in zip(noise, said['made'], strict=True):
        wanted = metastyle_jax.stylize(style, pixels)
        disagreement(np.array(made).reshape(wanted.shape), wanted, 1e-4)
    assert said['refused'] == '20 x 15 pixels: both sides must have at least 16 pixels'


def test_a_person_chooses_paints_compares_and_saves(browser, address, style, model, photo):
    with browser_helpers.Page(browser, address) as page:
        page.context.grant_permissions(['clipboard-read', 'clipboard-write'])
        cores = page.tab.evaluate('Math.min(navigator.hardwareConcurrency, 16)')
        assert f'(WebAssembly, {cores} thread' in page.tab.inner_text('#backend')
        page.choose_photo(photo)
        page.says('Now add a style')
        page.add_style('first', model)
        page.add_style('second', model)
        page.tab.get_by_role('radio', name='first').check()
        page.says('Ready to paint in the style first')
        page.paint()
        painted = page.canvas()
        assert difference(painted, levels(style, photo)) <= 2
        assert np.all(painted[..., 3] == 255)

        page.tab.locator('#compare').click(position={'x': 5, 'y': 5})
        slider = page.tab.get_by_role('slider')
        assert int(slider.input_value()) <= 2
        slider.press('End')
        assert slider.get_attribute('aria-valuetext') == '100 % original, 0 % painting'

        files = {}
        for kind in ('PNG', 'JPEG'):
            with page.tab.expect_download() as started:
                page.button(f'Save {kind}').click()
            files[kind] = started.value
        assert files['PNG'].suggested_filename == 'photo-first.png'
        assert np.array_equal(np.asarray(Image.open(files['PNG'].path())), painted)
        saved = np.asarray(Image.open(files['JPEG'].path()), float)
        assert files['JPEG'].suggested_filename == 'photo-first.jpg'
        assert np.mean(np.abs(saved - painted[..., :3])) < 8
        page.button('Copy').click()
        page.says('Copied')

        page.button('Remove first').click()
        page.expect(page.tab.get_by_role('radio')).to_have_count(1)
        assert not page.errors
        assert page.requests
        assert all(url.startswith((address, f'blob:{address}')) for url in page.requests)


def test_orientation_and_transparency_are_those_of_the_package(
    browser, address, style, model, tmp_path
):
    rng = np.random.default_rng(1)
    turned, clear = tmp_path / 'turned.png', tmp_path / 'clear.png'
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: 24 x 40 is shown as 40 x 24
    Image.fromarray(rng.integers(0, 256, (24, 40, 3), np.uint8)).save(turned, exif=exif)
    pixels = rng.integers(0, 256, (20, 30, 4), np.uint8)
    pixels[:4, :, 3] = 0
    Image.fromarray(pixels).save(clear)
    with browser_helpers.Page(browser, address) as page:
        page.add_style('style', model)
        page.choose_photo(turned)
        page.paint()
        assert page.canvas().shape == (40, 24, 4)
        assert difference(page.canvas(), levels(style, turned)) <= 2
        page.choose_photo(clear)
        page.paint()
        with page.tab.expect_download() as started:
            page.button('Save PNG').click()
        saved = np.asarray(Image.open(started.value.path()))
        assert np.array_equal(saved[..., 3], pixels[..., 3])
        opaque = pixels[..., 3] > 200  # a canvas rounds the colours of clear pixels
        found = np.abs(saved[..., :3].astype(float) - levels(style, clear))
        assert np.max(found[opaque]) <= 2
        with page.tab.expect_download() as started:
            page.button('Save JPEG').click()
        assert np.min(np.asarray(Image.open(started.value.path()))[0]) > 200  # white, not black


def test_webp_is_turned_as_its_exif_data_say(browser, address, tmp_path):
    image = Image.fromarray(helpers.ramp(24, 40))
    with browser_helpers.Page(browser, address) as page:
        for orientation in range(1, 9):
            exif = Image.Exif()
            exif[0x0112] = orientation
            path = tmp_path / f'{orientation}.webp'
            image.save(path, exif=exif, lossless=True)
            page.choose_photo(path)
            upright = np.asarray(ImageOps.exif_transpose(Image.open(path)))
            assert np.array_equal(page.canvas('before')[..., :3], upright), orientation


@pytest.mark.parametrize('options', [{'pixels': 'uint8'}, {'size': (24, 32)}])
def test_styles_of_other_forms_are_painted(browser, address, style, photo, options):
    with browser_helpers.Page(browser, address) as page:
        page.choose_photo(photo)
        page.add_style('style', browser_helpers.to_onnx(style, **options))
        assert page.tab.locator('#side').is_disabled() == ('size' in options)
        if 'size' not in options:
            page.tab.select_option('#side', 'original')
        page.button('Paint').click()
        page.wait_for_painting()
        picture = np.asarray(Image.open(photo), np.float32) / 255
        if 'size' in options:
            page.says('edges were cut off')
            picture = picture[:, 4:-4]
        assert difference(page.canvas(), levels(style, picture)) <= 2


def test_the_page_answers_while_the_network_runs_and_can_be_cancelled(
    browser, address, style, model, photo
):
    large = io.BytesIO()
    Image.fromarray(np.zeros((1400, 1400, 3), np.uint8)).save(large, 'PNG')
    script = 'window.ticks = 0; setInterval(() => { window.ticks += 1; }, 10);'
    with browser_helpers.Page(browser, address, script=script) as page:
        page.add_style('style', model)
        page.choose_photo(browser_helpers.as_file('large.png', large.getvalue(), 'image/png'))
        page.tab.select_option('#side', 'original')
        # Counts from the moment at which the network has its picture.
        page.tab.evaluate(
            """() => new MutationObserver(() => { window.begun ??= window.ticks; })
              .observe(document.getElementById('busy'), { attributes: true })"""
        )
        page.button('Paint').click()
        page.wait_for_painting()
        assert page.tab.evaluate('window.ticks - window.begun') >= 10

        page.button('Paint').click()
        page.button('Cancel').click()
        page.says('Cancelled')
        assert page.tab.locator('#busy').is_hidden()
        page.choose_photo(photo)
        page.paint()
        assert difference(page.canvas(), levels(style, photo)) <= 2
        page.choose_photo(browser_helpers.as_file('large.png', large.getvalue(), 'image/png'))
        page.button('Paint').click()
        page.tab.keyboard.press('Escape')
        page.says('Cancelled')
        assert not page.errors


def test_a_graphics_card_that_fails_is_replaced_by_the_processor(
    browser, address, style, model, photo
):
    # The page believes in a graphics card, and the worker finds none.
    script = """Object.defineProperty(navigator, 'gpu',
      { value: { requestAdapter: async () => ({ info: {} }) } });"""
    with browser_helpers.Page(browser, address, script=script) as page:
        page.choose_photo(photo)
        page.add_style('style', model)
        page.paint()
        assert difference(page.canvas(), levels(style, photo)) <= 2
        told = page.tab.inner_text('#backend')
        assert 'WebAssembly' in told
        assert 'The graphics card failed' in told


def test_webgpu_gives_the_pixels_of_jax_and_its_loss_is_survived(
    playwright, address, style, model, photo
):
    flags = ('--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader')
    browser = browser_helpers.launch(playwright, *flags)
    Image.open(photo).crop((0, 0, 20, 16)).save(photo)  # SwiftShader is slow
    with browser_helpers.Page(browser, address, '?backend=webgpu') as page:
        if 'WebGPU' not in page.tab.inner_text('#backend'):
            pytest.skip('this Chromium has no adapter for WebGPU, not even SwiftShader')
        page.choose_photo(photo)
        (worker,) = page.tab.workers
        worker.evaluate(KEEP_DEVICE)
        page.add_style('style', model)
        page.paint()
        assert 'WebGPU' in page.tab.inner_text('#backend')
        assert difference(page.canvas(), levels(style, photo)) <= 2
        worker.evaluate('self.device.destroy()')
        page.paint()
        assert 'The graphics card failed' in page.tab.inner_text('#backend')
        assert difference(page.canvas(), levels(style, photo)) <= 2
        assert not page.errors

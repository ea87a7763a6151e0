"""The page of launch/web.sh for people: wrong files, phones, keyboards, screen readers, offline."""

import re

import browser_helpers
import numpy as np
import pytest

browser, playwright = browser_helpers.browser, browser_helpers.playwright
style, model = browser_helpers.style, browser_helpers.model
folder, address = browser_helpers.folder, browser_helpers.address
picture = browser_helpers.picture
PAGE = '<!DOCTYPE html><html><body>404 Not Found</body></html>'


def other_network():
    """An ONNX file that is not a style: it returns its input."""
    import onnx

    image = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in 'xy']
    node = onnx.helper.make_node('Identity', ['x'], ['y'])
    graph = onnx.helper.make_graph([node], 'other', image[:1], image[1:])
    opset = [onnx.helper.make_opsetid('', 18)]
    return onnx.helper.make_model(graph, ir_version=8, opset_imports=opset).SerializeToString()


def of_nan(model):
    """The style with a kernel of NaN."""
    import onnx

    loaded = onnx.load_from_string(model)
    for tensor in loaded.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 4:
            tensor.raw_data = np.full(tensor.dims, np.nan, np.float32).tobytes()
    return loaded.SerializeToString()


def huge_png():
    """Header of a PNG of 40,000 x 40,000 pixels."""
    return picture().replace(b'\0\0\0\x28\0\0\0\x18', b'\0\0\x9c\x40\0\0\x9c\x40', 1)


def wrong_files(model):
    """Name, content, where it was chosen, and what the page says about it."""
    heic = b'\0\0\0\x18ftypheic' + bytes(40)
    tensors = b'\x10' + bytes(7) + b'{"a": 1}        '
    scrambled = b'\x08\x08\x3a\x28' + b'\xff' * 40
    return [
        ('a.jpg', picture(kind='JPEG'), 'model', 'a.jpg is not a style', 'metastyle adapt'),
        ('a.safetensors', tensors, 'model', 'a.safetensors is not a style', 'metastyle export'),
        ('a.onnx', PAGE.encode(), 'model', 'a.onnx is not a style', 'web page'),
        ('a.onnx', b'', 'model', 'a.onnx is empty', 'again'),
        ('a.onnx', b'version https://git-lfs.github.com/spec/v1', 'model', 'style', 'git lfs pull'),
        ('a.onnx', model[:-1000], 'model', 'a.onnx is incomplete', 'bytes at its end'),
        ('a.onnx', model[:9], 'model', 'a.onnx is incomplete', 'are missing'),
        ('a.onnx', scrambled, 'model', 'a.onnx is damaged', 'export it again'),
        ('a.onnx', b'\xfe\xdc' * 50, 'model', 'a.onnx is damaged', 'export it again'),
        ('a.onnx', other_network(), 'model', 'a.onnx is not a style', 'another program'),
        ('a.onnx', of_nan(model), 'model', 'no colours', 'damaged'),
        ('a.stablehlo', b'\x3c\0\0\0\x38\0', 'model', 'not a style', 'StableHLO'),
        ('a.pth', b'PK\x03\x04', 'model', 'not a style', 'metastyle export'),
        ('a.onnx', model, 'photo', 'a.onnx is not a photograph', 'Style'),
        ('a.txt', b'hello', 'photo', 'a.txt is not a photograph', 'JPEG, PNG or WebP'),
        ('a.mp4', b'\0\0\0\x18ftypisom', 'photo', 'a.mp4 is not a photograph', 'video'),
        ('a.heic', heic, 'photo', 'a.heic cannot be opened', 'HEIC'),
        ('a.tif', b'II*\0' + bytes(40), 'photo', 'a.tif cannot be opened', 'TIFF'),
        ('a.svg', b'<svg xmlns="http://www.w3.org/2000/svg"/>', 'photo', 'cannot be opened', 'SVG'),
        ('a.png', picture()[:200], 'photo', 'a.png cannot be opened', 'damaged'),
        ('a.jpg', picture(kind='JPEG')[:30], 'photo', 'a.jpg cannot be opened', 'damaged'),
        ('a.png', huge_png(), 'photo', 'a.png cannot be opened', '40000 × 40000'),
        ('a.png', picture(12, 40), 'photo', 'a.png is too small', '40 × 12 pixels'),
    ]


def test_each_wrong_file_is_told_apart_and_harms_nothing(browser, address, model):
    with browser_helpers.Page(browser, address) as page:
        for name, content, where, title, advice in wrong_files(model):
            page.tab.set_input_files(f'#{where}', browser_helpers.as_file(name, content))
            page.refuses(title, advice)
            page.button('Close').click()
        page.expect(page.tab.get_by_role('radio')).to_have_count(0)
        page.choose_photo(browser_helpers.as_file('photo.png', picture(), 'image/png'))
        page.add_style('style', model)
        page.paint()
        assert not page.errors


def test_a_jpeg_without_its_end_is_painted_and_told(browser, address):
    with browser_helpers.Page(browser, address) as page:
        whole = picture(kind='JPEG')
        page.choose_photo(browser_helpers.as_file('a.jpg', whole[:-2]))
        page.expect(page.tab.locator('#photo-name')).to_contain_text('end of the file is missing')
        found = page.canvas('before')
        page.choose_photo(browser_helpers.as_file('b.jpg', whole))
        page.expect(page.tab.locator('#photo-name')).to_have_text('b.jpg, 40 × 24 pixels.')
        assert np.array_equal(found, page.canvas('before'))


def test_a_picture_that_is_too_large_is_offered_in_the_size_that_fits(browser, address, model):
    script = "Object.defineProperty(navigator, 'deviceMemory', { value: 0.001 });"
    with browser_helpers.Page(browser, address, script=script) as page:
        page.add_style('style', model)
        page.choose_photo(browser_helpers.as_file('a.png', picture(40, 60), 'image/png'))
        page.tab.select_option('#side', 'original')
        page.button('Paint').click()
        page.refuses('The photograph is too large', '60 × 40 pixels')
        page.tab.get_by_role('button', name='Paint in').click()
        page.wait_for_painting()
        height, width, _ = page.canvas().shape
        assert 16 <= height < 40
        assert height * width * 670 <= 0.0005 * 2**30
        page.choose_photo(browser_helpers.as_file('a.png', picture(17, 600), 'image/png'))
        page.tab.select_option('#side', '256')
        page.button('Paint').click()
        page.refuses('too narrow', '256 × 7 pixels')


def test_a_full_memory_is_told_and_a_smaller_size_works(browser, address, model):
    with browser_helpers.Page(browser, address) as page:
        page.add_style('style', model)
        page.choose_photo(browser_helpers.as_file('a.png', picture(40, 64), 'image/png'))
        page.tab.select_option('#side', 'original')
        page.tab.workers[0].evaluate(
            """() => {
              const float32 = self.Float32Array;
              self.Float32Array = function (length) {
                if (length === 3 * 64 * 40) throw new RangeError('Array buffer allocation failed');
                return new float32(...arguments);
              };
            }"""
        )
        page.button('Paint').click()
        page.refuses('The memory is full', 'smaller size')
        page.button('Paint in 32 × 20').click()
        page.wait_for_painting()


def test_files_may_be_dropped_and_pasted(browser, address, model):
    drop = """({ type, files, text }) => {
      const dataTransfer = new DataTransfer();
      for (const [name, bytes] of files) {
        dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
      }
      if (text) dataTransfer.setData('text/plain', text);
      const init = { bubbles: true, cancelable: true, dataTransfer, clipboardData: dataTransfer };
      const make = type === 'paste' ? ClipboardEvent : DragEvent;
      return !document.body.dispatchEvent(new make(type, init));
    }"""
    files = [['photo.png', list(picture())], ['style.onnx', list(model)]]

    def send(type_, files=(), text=''):
        return page.tab.evaluate(drop, {'type': type_, 'files': list(files), 'text': text})

    with browser_helpers.Page(browser, address) as page:
        overlay = page.tab.locator('#drop')
        send('dragenter', files)
        assert overlay.is_visible()
        send('dragleave', files)
        assert overlay.is_hidden()
        send('dragenter', files)
        assert send('dragover', files)  # else the browser would leave the page
        assert send('drop', files)
        assert overlay.is_hidden()
        page.says('Ready to paint in the style style')
        send('drop', text='https://host/picture.jpg')
        page.refuses('not a file')
        send('paste', [['', list(picture())]])
        page.expect(page.tab.locator('#photo-name')).to_contain_text('pasted picture, 40 × 24')
        send('paste', text='words')
        page.refuses('clipboard has no picture')
        page.paint()
        assert not page.errors


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_phones_and_screen_readers_are_served(browser, address, model, scheme):
    options = {**browser_helpers.PHONE, 'color_scheme': scheme, 'reduced_motion': 'reduce'}
    with browser_helpers.Page(browser, address, **options) as page:

        def check():
            width = page.tab.evaluate('document.documentElement.scrollWidth')
            assert width <= 390
            assert page.small_controls() == []
            page.check_accessibility()

        check()
        assert page.tab.get_by_text('Take a photograph').is_visible()
        assert page.tab.get_attribute('#camera', 'capture') == 'environment'
        page.button('Try an example').tap()
        page.says('Ready to paint')
        assert 'A. Person' in page.tab.inner_text('#photo-name')
        page.button('Paint').tap()
        page.wait_for_painting()
        box = page.tab.locator('#compare').bounding_box()
        page.tab.touchscreen.tap(box['x'] + 0.9 * box['width'], box['y'] + 10)
        assert int(page.tab.get_by_role('slider').input_value()) in range(88, 93)
        check()
        long = 'a' * 200 + '.jpg'
        page.tab.set_input_files('#photo', browser_helpers.as_file(long, picture()[:200]))
        page.refuses('cannot be opened', 'damaged')
        check()
        background = page.tab.evaluate('getComputedStyle(document.body).backgroundColor')
        assert (int(re.findall(r'\d+', background)[0]) < 50) == (scheme == 'dark')
        moving = page.tab.evaluate("getComputedStyle(document.getElementById('paint')).transition")
        assert moving.startswith('none')


def test_the_keyboard_alone_is_enough(browser, address, model, tmp_path):
    (tmp_path / 'photo.png').write_bytes(picture())
    (tmp_path / 'one.onnx').write_bytes(model)
    (tmp_path / 'two.onnx').write_bytes(model)
    with browser_helpers.Page(browser, address) as page:
        keyboard = page.tab.keyboard
        chosen = {'photo': ['photo.png'], 'model': ['one.onnx', 'two.onnx']}
        page.tab.on('filechooser', lambda dialog: dialog.set_files(
            [tmp_path / name for name in chosen[dialog.element.get_attribute('id')]]))  # fmt: skip

        def tab_to(what):
            for _ in range(25):
                keyboard.press('Tab')
                if page.tab.evaluate(f'document.activeElement.matches({what!r})'):
                    ring = '(document.activeElement.closest(".button") ?? document.activeElement)'
                    return page.tab.evaluate(f'getComputedStyle({ring}).outlineStyle')
            raise AssertionError(f'{what} was not reached')

        for where in ('#photo', '#model'):
            assert tab_to(where) == 'solid'
            keyboard.press('Enter')
        page.says('Ready to paint in the style one')
        page.expect(page.tab.get_by_role('radio')).to_have_count(2)
        assert tab_to('#styles input') == 'solid'
        keyboard.press('ArrowDown')
        page.says('Ready to paint in the style two')
        tab_to('#side')
        keyboard.press('ArrowDown')
        assert page.tab.locator('#side').input_value() == '768'
        assert tab_to('#paint') == 'solid'
        keyboard.press('Enter')
        page.wait_for_painting()
        tab_to('#split')
        keyboard.press('Home')
        assert page.tab.get_by_role('slider').input_value() == '0'
        tab_to('#png')
        with page.tab.expect_download() as started:
            keyboard.press('Enter')
        assert started.value.suggested_filename == 'photo-two.png'
        tab_to('.remove')
        keyboard.press('Enter')
        page.expect(page.tab.locator('.remove')).to_be_focused()
        assert not page.errors


def test_the_page_works_without_a_network_once_it_is_loaded(browser, folder, model):
    photo = browser_helpers.as_file('photo.png', picture(), 'image/png')
    with browser_helpers.serve(folder) as served:
        page = browser_helpers.Page(browser, served)
        page.tab.evaluate('navigator.serviceWorker.ready.then(() => true)')
    with page:  # the server has ended
        page.choose_photo(photo)
        page.add_style('style', model)
        page.button('Paint').click()
        page.tab.evaluate("document.getElementById('cancel').click()")
        page.paint()
        page.tab.reload()
        page.choose_photo(photo)
        page.add_style('style', model)
        page.paint()


def test_one_thread_is_used_without_isolation_and_addresses_load_files(browser, folder):
    query = '?model=samples/style.onnx&photo=samples/photo.png'
    with browser_helpers.serve(folder, isolated=False) as served:
        with browser_helpers.Page(browser, served, query) as page:
            page.wait_for_painting()
            assert '1 thread)' in page.tab.inner_text('#backend')
            assert page.canvas().shape == (24, 40, 4)
        for model in ('none.onnx', 'https://example.org/a.onnx'):
            with browser_helpers.Page(browser, served, f'?model={model}') as page:
                page.refuses('could not be loaded', 'own site')


def test_a_page_without_the_runtime_tells_what_is_missing(browser, tmp_path, model):
    folder = browser_helpers.make_site(tmp_path / 'web')
    (folder / 'onnxruntime-web').unlink()
    with (
        browser_helpers.serve(folder) as served,
        browser_helpers.Page(browser, served) as page,
    ):
        page.refuses('The page is incomplete', 'launch/web.sh')


@pytest.mark.parametrize('lacking', ['OffscreenCanvas', 'WebAssembly', 'createImageBitmap'])
def test_an_old_browser_is_told_so(browser, address, lacking):
    script = f"Object.defineProperty(self, '{lacking}', {{ value: undefined }});"
    with browser_helpers.Page(browser, address, script=script) as page:
        page.refuses('too old', lacking)
        assert not page.errors


def test_without_javascript_the_page_says_so(browser, address):
    with browser.new_context(java_script_enabled=False) as context:
        tab = context.new_page()
        tab.goto(address)
        assert 'needs JavaScript' in tab.locator('body').inner_text()

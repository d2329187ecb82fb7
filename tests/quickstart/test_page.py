"""The page of the quickstart."""

import base64
import re

from mcl_mm.quickstart.page import Section, write_page


def test_the_page_needs_no_other_file_and_shows_text_as_it_is(tmp_path):
    picture = tmp_path / 'picture.png'
    picture.write_bytes(b'pixels')
    sections = [
        Section('A <b>', 'x & y', picture=picture, rows=[['head'], ['<cell>']], code='a < b'),
        Section('B', 'text'),
    ]
    write_page(tmp_path / 'index.html', 'Run of images/été', sections)
    text = (tmp_path / 'index.html').read_text(encoding='utf-8')
    assert re.findall(r'src="(.*?)"', text) == [
        'data:image/png;base64,' + base64.b64encode(b'pixels').decode()
    ]
    assert not re.findall(r'(?:href|link|script)', text)
    for shown in (
        '<h2>A &lt;b&gt;</h2>',
        'x &amp; y',
        '<td>&lt;cell&gt;</td>',
        '<pre>a &lt; b</pre>',
    ):
        assert shown in text
    assert text.count('<h2>') == 2
    assert 'Run of images/été' in text

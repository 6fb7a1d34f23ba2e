"""Makes lorhai-sans.otf, the font of the charts, from Pretendard Regular (SIL OFL 1.1).

    npm pack pretendard@1.3.9 && tar xzf pretendard-1.3.9.tgz
    pip install fonttools==4.68.0
    python make_subset.py package/dist/public/static/Pretendard-Regular.otf lorhai-sans.otf

Kept: Latin, Greek, punctuation, arrows and signs that charts use, and the 2,350
Hangul syllables of KS X 1001 with the compatibility jamo. Dropped: hinting (PNG text
is drawn with anti-aliasing), kerning and alternates (the layout measures advances only).
The licence reserves the name "Pretendard", so the subset goes by another one.
"""

import sys

from fontTools import subset
from fontTools.ttLib import TTFont

NAME = "Lorhai Sans"
SIGNS = "–—‘’“”•…′″‰€№℃←↑→↓↔↕−×÷±√∞≈≠≤≥∑∏∂∆·₩■□●○▲△▼▽◆◇★☆▶◀※"


def characters():
    yield from range(0x20, 0x7F)
    yield from range(0xA0, 0x180)
    yield from range(0x391, 0x3CA)
    yield from range(0x2070, 0x209D)
    yield from range(0x3131, 0x318F)
    yield from map(ord, SIGNS)
    for row in range(0xB0, 0xC9):
        for cell in range(0xA1, 0xFF):
            yield ord(bytes([row, cell]).decode("euc-kr"))


def rename(font):
    texts = {1: NAME, 3: f"{NAME} subset of Pretendard 1.3.9", 4: NAME, 6: NAME.replace(" ", "")}
    names = font["name"]
    names.names = [record for record in names.names if record.nameID in (0, 2, 5, 13, 14, *texts)]
    for number, text in texts.items():
        names.removeNames(nameID=number)
        names.setName(text, number, 3, 1, 0x409)
    font["CFF "].cff.fontNames = [NAME.replace(" ", "")]
    top = font["CFF "].cff.topDictIndex[0]
    top.FullName, top.FamilyName = NAME, NAME


def main(source, target):
    options = subset.Options(hinting=False, layout_features=[], glyph_names=False, notdef_outline=True)
    options.drop_tables += ["GSUB", "GPOS", "GDEF", "BASE", "VORG", "vhea", "vmtx", "kern"]
    options.name_IDs = ["*"]
    font = subset.load_font(source, options)
    chooser = subset.Subsetter(options)
    chooser.populate(unicodes=set(characters()))
    chooser.subset(font)
    rename(font)
    font["head"].modified = font["head"].created  # the same bytes every time
    font.recalcTimestamp = False
    subset.save_font(font, target, options)
    missing = sorted(set(characters()) - set(TTFont(target).getBestCmap()))
    print("not in the source font:", " ".join(map(chr, missing)))


if __name__ == "__main__":
    main(*sys.argv[1:])

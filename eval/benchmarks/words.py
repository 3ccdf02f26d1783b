"""Where a word begins and ends in an answer, in writing with and without spaces."""

CHINESE = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"  # kana, ideographs, hangul: glued to letters
BEGIN = rf"(?:(?<![\w'])|(?<=[{CHINESE}]))"
END = rf"(?:(?![\w'])|(?=[{CHINESE}]))"
NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: " "}


def narrow(text: str) -> str:
    """Full-width letters, digits and punctuation as ASCII: "（Ｂ）" -> "(B)"."""
    return text.translate(NARROW)

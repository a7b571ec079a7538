"""The languages a label can be in: one canonical English name each, and what else people write for it."""

import unicodedata

# name: (ISO 639-1 code, other spellings in use)
_LANGUAGES: dict[str, tuple[str, ...]] = {
    "English": ("en", "eng"),
    "French": ("fr", "fra", "français", "francais"),
    "German": ("de", "deu", "deutsch"),
    "Italian": ("it", "ita", "italiano"),
    "Spanish": ("es", "spa", "español", "espanol"),
    "Dutch": ("nl", "nld", "nederlands"),
    "Hindi": ("hi", "hin", "हिन्दी", "हिंदी"),
    "Telugu": ("te", "tel", "తెలుగు"),
    "Arabic": ("ar", "ara", "العربية"),
    "Bengali": ("bn", "ben", "বাংলা"),
    "Bulgarian": ("bg", "bul", "български"),
    "Catalan": ("ca", "cat", "català"),
    "Chinese": ("zh", "zho", "中文"),
    "Croatian": ("hr", "hrv", "hrvatski"),
    "Czech": ("cs", "ces", "čeština"),
    "Danish": ("da", "dan", "dansk"),
    "Estonian": ("et", "est", "eesti"),
    "Finnish": ("fi", "fin", "suomi"),
    "Greek": ("el", "ell", "ελληνικά"),
    "Gujarati": ("gu", "guj", "ગુજરાતી"),
    "Hebrew": ("he", "heb", "עברית"),
    "Hungarian": ("hu", "hun", "magyar"),
    "Indonesian": ("id", "ind", "bahasa indonesia"),
    "Irish": ("ga", "gle", "gaeilge"),
    "Japanese": ("ja", "jpn", "日本語"),
    "Kannada": ("kn", "kan", "ಕನ್ನಡ"),
    "Korean": ("ko", "kor", "한국어"),
    "Latvian": ("lv", "lav", "latviešu"),
    "Lithuanian": ("lt", "lit", "lietuvių"),
    "Malayalam": ("ml", "mal", "മലയാളം"),
    "Maltese": ("mt", "mlt", "malti"),
    "Marathi": ("mr", "mar", "मराठी"),
    "Norwegian": ("no", "nor", "norsk"),
    "Polish": ("pl", "pol", "polski"),
    "Portuguese": ("pt", "por", "português"),
    "Punjabi": ("pa", "pan", "ਪੰਜਾਬੀ"),
    "Romanian": ("ro", "ron", "română"),
    "Russian": ("ru", "rus", "русский"),
    "Slovak": ("sk", "slk", "slovenčina"),
    "Slovenian": ("sl", "slv", "slovenščina"),
    "Swedish": ("sv", "swe", "svenska"),
    "Tamil": ("ta", "tam", "தமிழ்"),
    "Thai": ("th", "tha", "ไทย"),
    "Turkish": ("tr", "tur", "türkçe"),
    "Ukrainian": ("uk", "ukr", "українська"),
    "Urdu": ("ur", "urd", "اردو"),
    "Vietnamese": ("vi", "vie", "tiếng việt"),
}

LANGUAGES: tuple[str, ...] = tuple(_LANGUAGES)
UNKNOWN = "unknown"  # what the prompt says when nobody knows; never valid in a workbook

_CANONICAL = {alias: name for name, aliases in _LANGUAGES.items() for alias in (name.lower(), *aliases)}


def canonical_language(text: str) -> str | None:
    """Return the English name of the language meant by `text` (name, code or native name), or None."""
    return _CANONICAL.get(unicodedata.normalize("NFC", text).strip().casefold())


def language_code(name: str) -> str | None:
    """Return the ISO 639-1 code of a language by its English name, or None."""
    return _LANGUAGES[name][0] if name in _LANGUAGES else None

"""Turns the capitals and abbreviations of the catalog file into words for people."""

import re

ABBREVIATIONS = {
    "FRZN": "Frozen", "FRZ": "Frozen", "REFRGRATD": "Refrigerated", "REFRIG": "Refrigerated", "CND": "Canned",
    "SALD": "Salad", "DRSNG": "Dressing", "SNDWCH": "Sandwich", "SPRD": "Spread", "DRNKS": "Drinks",
    "DRNK": "Drink", "DNRS": "Dinners", "MXS": "Mixes", "BTL": "Bottle", "CARB": "Carbonated", "SFT": "Soft",
    "DOGFD": "Dog Food", "PKGD": "Packaged", "WTR": "Water", "TRSH": "Trash", "BG": "Bag", "SHERBTS": "Sherbets",
    "VEG": "Vegetables", "MISC": "Miscellaneous", "PROD": "Products", "PRODS": "Products",
    "GM": "General Merchandise", "MLT": "Multi", "PK": "Pack", "DEPT": "Department", "SUP": "Supplies",
    "CNTRL": "Central", "SW": "Sweet", "GDS": "Goods", "CRBNTD": "Carbonated", "DRNKING": "Drinking",
    "MNERAL": "Mineral", "FLVRD": "Flavored", "INCL": "Including", "CHOC": "Chocolate", "FD": "Food",
}  # fmt: skip
KEPT = {"IWS", "BBQ", "TV", "USA", "OTC", "H", "B", "L", "NA"}
UNITS = {
    "OZ": "oz", "LB": "lb", "LBS": "lb", "CT": "ct", "ML": "ml", "L": "L", "LTR": "L", "PK": "pack", "QT": "qt",
    "GAL": "gal", "GA": "gal", "SQ": "sq", "FT": "ft", "PT": "pt", "IN": "in", "KG": "kg", "G": "g", "FL": "fl",
    "DZ": "dozen",
}  # fmt: skip


def human_title(text: str) -> str:
    """Title Case of the file's capitals, with the commonest abbreviations written out."""
    # Names were cut at 30 characters in the file: an open bracket without its end is such a stump.
    text = re.sub(r"\([^)]*$", "", text)
    text = re.sub(r"\s*([/&])\s*", r" \1 ", text.replace(":", ": "))
    text = re.sub(r"\s+", " ", text).strip(" -/&:")
    return re.sub(r"[A-Z0-9'%.]+", lambda found: _word(found.group()), text)


def product_title(kind: str, size: str | None) -> str:
    """What a shelf label would say: the kind of product, then its size."""
    title = human_title(kind)
    words = (size or "").split()
    # Some sizes carry a stray letter of another column: "L    20 OZ".
    if len(words) > 2 and not words[0][0].isdigit():
        words = words[1:]
    if not words:
        return title
    return f"{title}, {' '.join(UNITS.get(word, word) for word in words)}"


def _word(word: str) -> str:
    if word in ABBREVIATIONS:
        return ABBREVIATIONS[word]
    return word if word in KEPT else word.capitalize()

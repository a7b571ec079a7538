"""The class names of the ai4privacy releases, and how a person would write each."""

import re

_PHRASES = {
    "ACCOUNTNAME": "account name",
    "ACCOUNTNUM": "account number",
    "ACCOUNTNUMBER": "account number",
    "AGE": "age",
    "AMOUNT": "amount",
    "BIC": "bank identifier code",
    "BITCOINADDRESS": "bitcoin address",
    "BOD": "birth date",
    "BUILDING": "building",
    "BUILDINGNUM": "building number",
    "BUILDINGNUMBER": "building number",
    "CARDISSUER": "card issuer",
    "CITY": "city",
    "COMPANYNAME": "company name",
    "COUNTRY": "country",
    "COUNTY": "county",
    "CREDITCARDCVV": "credit card security code",
    "CREDITCARDISSUER": "credit card issuer",
    "CREDITCARDNUMBER": "credit card number",
    "CURRENCY": "currency",
    "CURRENCYCODE": "currency code",
    "CURRENCYNAME": "currency name",
    "CURRENCYSYMBOL": "currency symbol",
    "DATE": "date",
    "DATEOFBIRTH": "date of birth",
    "DOB": "date of birth",
    "DRIVERLICENSE": "driver license",
    "DRIVERLICENSENUM": "driver license number",
    "EMAIL": "email",
    "ETHEREUMADDRESS": "ethereum address",
    "EYECOLOR": "eye color",
    "FIRSTNAME": "first name",
    "FULLNAME": "full name",
    "GENDER": "gender",
    "GEOCOORD": "geographic coordinate",
    "GIVENNAME": "given name",
    "HEIGHT": "height",
    "IBAN": "bank account number",
    "IDCARD": "identity card",
    "IDCARDNUM": "identity card number",
    "IP": "ip address",
    "IPV4": "ipv4 address",
    "IPV6": "ipv6 address",
    "JOBAREA": "job area",
    "JOBTITLE": "job title",
    "JOBTYPE": "job type",
    "LASTNAME": "last name",
    "LITECOINADDRESS": "litecoin address",
    "MAC": "mac address",
    "MASKEDNUMBER": "masked number",
    "MIDDLENAME": "middle name",
    "NEARBYGPSCOORDINATE": "nearby gps coordinate",
    "ORDINALDIRECTION": "ordinal direction",
    "PASS": "password",
    "PASSPORT": "passport",
    "PASSPORTNUM": "passport number",
    "PASSWORD": "password",
    "PHONEIMEI": "phone imei",
    "PHONENUMBER": "phone number",
    "PIN": "personal identification number",
    "POSTCODE": "postal code",
    "PREFIX": "name prefix",
    "SECADDRESS": "secondary address",
    "SECONDARYADDRESS": "secondary address",
    "SEX": "sex",
    "SOCIALNUM": "social security number",
    "SOCIALNUMBER": "social security number",
    "SSN": "social security number",
    "STATE": "state",
    "STREET": "street",
    "SURNAME": "surname",
    "TAXNUM": "tax number",
    "TEL": "telephone number",
    "TELEPHONENUM": "telephone number",
    "TIME": "time",
    "TITLE": "title",
    "URL": "web address",
    "USERAGENT": "user agent",
    "USERNAME": "user name",
    "VEHICLEVIN": "vehicle identification number",
    "VEHICLEVRM": "vehicle registration mark",
    "ZIPCODE": "zip code",
}


def class_name(label: str) -> str:
    """Return the class that a span's label names, without the number of the span.

    FIRSTNAME_1 is FIRSTNAME. Digits without an underscore go only if a known class is left: LASTNAME1 is LASTNAME, but
    IPV4 stays.
    """
    name = re.sub(r"_\d+$", "", label)
    bare = name.rstrip("0123456789")
    return bare if _key(bare) in _PHRASES and _key(name) not in _PHRASES else name


def class_forms(name: str) -> tuple[str, ...]:
    """Return the ways to write a class: as it is, and in words if it is a known one."""
    phrase = _PHRASES.get(_key(name))
    return (name,) if phrase is None else (name, phrase)


def _key(name: str) -> str:
    return name.upper().replace("_", "")

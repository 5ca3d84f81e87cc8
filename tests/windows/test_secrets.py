"""One policy says what is never shown."""

from __future__ import annotations

import pytest

from byre.windows.secrets import is_secret, is_secret_class

NT = r"Microsoft\Windows NT\CurrentVersion"
SECRET = [
    ("SOFTWARE", NT, "DigitalProductId"),
    ("SOFTWARE", NT, "digitalproductid4"),
    ("SOFTWARE", NT, "ProductId"),
    ("SOFTWARE", rf"{NT}\Winlogon", "DefaultPassword"),
    ("SOFTWARE", rf"{NT}\Winlogon", "AltDefaultPassword"),
    ("SOFTWARE", r"Microsoft\Office\11.0\Registration\{90110409}", "DigitalProductID"),
    ("SOFTWARE", r"Acme\Game", "CDKey"),
    ("SOFTWARE", r"Microsoft\WZCSVC\Parameters\Interfaces\{1}", "Static#0001"),
    ("SOFTWARE", r"RealVNC\WinVNC4", "Password"),
    ("SOFTWARE", r"TightVNC\Server", "PasswordViewOnly"),
    ("SOFTWARE", r"Wow6432Node\TeamViewer", "SecurityPasswordAES"),
    ("SAM", r"SAM\Domains\Account\Users\000001F4", "V"),
    ("SAM", r"SAM\Domains\Account\Users\000001F4", "f"),
    ("SAM", r"SAM\Domains\Account", "F"),
    ("SECURITY", r"Policy\Secrets\DefaultPassword\CurrVal", ""),
    ("SECURITY", r"policy\secrets\NL$KM\OldVal", ""),
    ("SECURITY", r"Policy\PolSecretEncryptionKey", ""),
    ("SECURITY", "Cache", "NL$1"),
    ("SYSTEM", r"ControlSet001\Control\Lsa\JD", "Lookup"),
    ("SYSTEM", r"CurrentControlSet\Control\Lsa\Data", "Pattern"),
    ("SYSTEM", r"WPA\Key-1234", "ProductID"),
    ("SYSTEM", r"ControlSet002\Services\SNMP\Parameters\ValidCommunities", "public"),
    ("SYSTEM", r"RAdmin\v2.0\Server\Parameters", "Parameter"),
    ("NTUSER", r"Software\Microsoft\Internet Account Manager\Accounts\00000001", "POP3 Password2"),
    ("NTUSER", r"Software\Microsoft\Internet Explorer\IntelliForms\SPW", "anything"),
    ("NTUSER", r"Software\Microsoft\Protected Storage System Provider\S-1-5-21\Data", "x"),
    ("DEFAULT", r"Software\ORL\WinVNC3", "Password"),
    ("NTUSER", r"Software\SimonTatham\PuTTY\Sessions\home", "ProxyPassword"),
    ("something", r"SAM\Domains\Account\Users\000001F4", "V"),
    ("", r"Policy\Secrets\x\CurrVal", ""),
]
SHOWN = [
    ("SOFTWARE", NT, "ProductName"),
    ("SOFTWARE", rf"{NT}\Winlogon", "AutoAdminLogon"),
    ("SOFTWARE", rf"{NT}\Winlogon", "DefaultUserName"),
    ("SOFTWARE", rf"{NT}\Winlogon", "PasswordExpiryWarning"),
    ("SOFTWARE", r"Microsoft\WZCSVC\Parameters\Interfaces\{1}", "ControlFlags"),
    ("SYSTEM", r"ControlSet001\Control\Lsa", "LimitBlankPasswordUse"),
    ("SYSTEM", r"ControlSet001\Services\LanmanWorkstation\Parameters", "EnablePlainTextPassword"),
    ("SYSTEM", r"ControlSet001\Services\Netlogon\Parameters", "DisablePasswordChange"),
    ("SYSTEM", r"ControlSet001\Control\Lsa\Kerberos", "Lookup"),
    ("SYSTEM", r"ControlSet001\Services\atapi", "Start"),
    ("SAM", r"SAM\Domains\Builtin\Aliases\00000220", "C"),
    ("SECURITY", r"Policy\PolAdtEv", ""),
    ("NTUSER", r"Control Panel\Desktop", "ScreenSaveUsePassword"),
    ("NTUSER", r"Software\Microsoft\Windows\CurrentVersion\Run", "ctfmon.exe"),
    ("SYSTEM", "Select", "Default"),
]


@pytest.mark.parametrize(("hive", "key", "value"), SECRET)
def test_data_is_hidden(hive: str, key: str, value: str) -> None:
    assert is_secret(hive, key, value)
    assert is_secret(hive.lower(), key.upper(), value.upper()), "case doesn't matter"


@pytest.mark.parametrize(("hive", "key", "value"), SHOWN)
def test_what_an_audit_needs_is_shown(hive: str, key: str, value: str) -> None:
    assert not is_secret(hive, key, value)


def test_class_names_that_hold_the_boot_key_are_hidden() -> None:
    for name in ("JD", "Skew1", "GBG", "Data"):
        assert is_secret_class("SYSTEM", rf"ControlSet001\Control\Lsa\{name}")
    assert not is_secret_class("SYSTEM", r"ControlSet001\Control\Lsa")
    assert not is_secret_class("SOFTWARE", r"ControlSet001\Control\Lsa\JD")
    assert is_secret_class("", r"ControlSet001\Control\Lsa\JD")

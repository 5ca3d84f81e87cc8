// Byre's own rules for what turns up in inherited disk images. Apache-2.0. "severity" is that of the finding.

rule antivirus_test_file
{
    meta:
        about = "the harmless file with which virus scanners are tested"
        severity = "medium"
    strings:
        $text = "$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$"
    condition:
        filesize < 4KB and $text
}

rule password_dumper
{
    meta:
        about = "commands of tools that read passwords out of Windows"
        severity = "high"
    strings:
        $a = "sekurlsa::logonpasswords" ascii wide nocase
        $b = "lsadump::sam" ascii wide nocase
        $c = "privilege::debug" ascii wide nocase
        $d = "LsaExt.dll pwservice" ascii wide nocase
    condition:
        2 of them
}

rule script_that_downloads_and_runs
{
    meta:
        about = "a script that fetches a file, saves it and starts it"
        severity = "high"
    strings:
        $fetch1 = "MSXML2.XMLHTTP" ascii wide nocase
        $fetch2 = "WinHttp.WinHttpRequest" ascii wide nocase
        $fetch3 = "URLDownloadToFile" ascii wide nocase
        $save = "SaveToFile" ascii wide nocase
        $run1 = "WScript.Shell" ascii wide nocase
        $run2 = "ShellExecute" ascii wide nocase
    condition:
        filesize < 512KB and uint16(0) != 0x5A4D and any of ($fetch*) and $save and any of ($run*)
}

rule hidden_powershell
{
    meta:
        about = "a hidden PowerShell with an encoded command"
        severity = "high"
    strings:
        $a = /powershell(\.exe)?[^\r\n]{0,80}-e(nc|ncodedcommand)?\s+[A-Za-z0-9+\/]{80}/ ascii wide nocase
    condition:
        filesize < 1MB and $a
}

rule script_that_adds_an_administrator
{
    meta:
        about = "a script that makes somebody an administrator"
        severity = "medium"
    strings:
        $a = "net localgroup administrators" ascii nocase
        $b = "/add" ascii nocase
    condition:
        filesize < 64KB and uint16(0) != 0x5A4D and all of them
}

rule settings_that_switch_protection_off
{
    meta:
        about = "registry settings that switch protection off when they are opened"
        severity = "medium"
    strings:
        $head1 = "REGEDIT4"
        $head2 = "Windows Registry Editor" ascii wide
        $a = "\"SFCDisable\"=dword:ffffff9d" ascii wide nocase
        $b = "\"DisableTaskMgr\"=dword:00000001" ascii wide nocase
        $c = "\"DisableRegistryTools\"=dword:00000001" ascii wide nocase
    condition:
        filesize < 256KB and any of ($head*) and any of ($a, $b, $c)
}

; A master boot record: starts the active partition's boot sector, and nothing else.
;
; Written for Byre, by the BIOS's rules: it is loaded at 0:7C00 with the drive in DL, moves itself to 0:0600, and jumps
; to the boot sector at 0:7C00 with DL as it was and DS:SI at the partition's entry. It reads by LBA where the BIOS can
; (INT 13h, AH=42h), else by the entry's CHS. It needs an 80386, as every guest does that Byre mends.
;
; Assembled by 'tools/assemble_boot.py' into master.bin, which a test holds to this text.

        bits    16
        cpu     386
        org     0x600

LOADED  equ     0x7C00                  ; where the BIOS puts this sector, and we the boot sector
ENTRIES equ     0x600 + 0x1BE           ; the four entries of the table

start:
        cli
        xor     ax, ax
        mov     ss, ax
        mov     sp, LOADED
        sti
        mov     ds, ax
        mov     es, ax
        cld
        mov     si, sp
        mov     di, start
        mov     cx, 256
        rep movsw                       ; out of the way of what is loaded
        jmp     0:find

find:
        mov     di, ENTRIES
        mov     cl, 4                   ; CH is 0
.entry:
        cmp     byte [di], 0x80
        je      load
        add     di, 16
        loop    .entry
        mov     si, none
        jmp     say

load:
        mov     ah, 0x41                ; has the BIOS the extensions?
        mov     bx, 0x55AA
        push    dx
        int     0x13
        pop     dx                      ; some BIOSes change DH
        jc      .chs
        cmp     bx, 0xAA55
        jne     .chs
        test    cl, 1                   ; packets
        jz      .chs
        push    dword 0                 ; the packet, from its end: LBA, high
        push    dword [di + 8]          ; LBA, low
        push    word 0                  ; segment
        push    word LOADED             ; offset
        push    word 1                  ; one sector
        push    word 16                 ; the packet's size
        mov     si, sp
        mov     ah, 0x42
        int     0x13
        mov     sp, LOADED              ; leaves the flags alone
        jnc     run
.chs:
        mov     dh, [di + 1]            ; head
        mov     cx, [di + 2]            ; cylinder and sector
        mov     bx, LOADED
        mov     ax, 0x0201
        int     0x13
        mov     si, unreadable
        jc      say

run:
        mov     si, empty
        cmp     word [LOADED + 510], 0xAA55
        jne     say
        mov     si, di                  ; the entry, for the boot sector
        jmp     0:LOADED

say:                                    ; what SI points to, and then nothing more
        lodsb
        test    al, al
.stop:
        jz      .stop
        mov     ah, 0x0E
        mov     bx, 7
        int     0x10
        jmp     say

none            db "No active partition", 0
unreadable      db "The active partition can't be read", 0
empty           db "The active partition has no boot sector", 0

        times 0x1B8 - ($ - $$) db 0     ; from here on a master boot record is data

; A boot sector that prints a text and then does what THEN says. No file system, no operating system.
;   nasm -f bin -DTHEN=wait -o sector.bin message.asm; the text lies at offset 0x80, NUL at its end.
        bits 16
        org 0x7c00

%define wait 0                  ; wait for a key that never comes, as boot sectors do
%define spin 1                  ; a loop that does nothing, interrupts off
%define dead 2                  ; halted with interrupts off
%define reset 3                 ; reset through the keyboard controller
%define serial 4                ; print on COM1 too, then wait
%define off 5                   ; off, through APM-less ACPI: PIIX4's PM1a control register

        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        sti
        cld
        mov si, text
.next:  lodsb
        test al, al
        jz .said
%if THEN == serial
        push ax
        xor dx, dx
        mov ah, 1               ; INT 14h/01: send a character
        int 0x14
        pop ax
%endif
        mov ah, 0x0e            ; INT 10h/0E: teletype
        mov bx, 7
        int 0x10
        jmp .next
.said:
%if THEN == wait || THEN == serial
.key:   hlt
        jmp .key
%elif THEN == spin
        cli
        jmp $
%elif THEN == dead
        cli
        hlt
%elif THEN == reset
        mov cx, 18              ; a second, so that the screen can be seen
        call ticks
        mov al, 0xfe
        out 0x64, al
        cli
        hlt
%elif THEN == off
        mov dx, 0x604           ; PM1a_CNT of QEMU's PIIX4: SLP_EN with sleep type 0, which is S5 there
        mov ax, 0x2000
        out dx, ax
        cli
        hlt
%endif

ticks:  mov ah, 0               ; INT 1Ah/00: the BIOS's tick count in CX:DX, 18.2 a second
        push cx
        int 0x1a
        pop cx
        mov bx, dx
.more:  push cx
        mov ah, 0
        int 0x1a
        pop cx
        sub dx, bx
        cmp dx, cx
        jb .more
        ret

        times 0x80 - ($ - $$) db 0
text:   times 510 - ($ - $$) db 0
        dw 0xaa55

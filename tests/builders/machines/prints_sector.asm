; The code of a master boot record that prints the first line of one sector, and stops: a machine that needs its file.
;   nasm -f bin -o code.bin prints_sector.asm; the sector's number is the 8 bytes at offset 0x88.
        bits 16
        org 0x7c00

        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        sti
        cld
        mov si, packet
        mov ah, 0x42            ; INT 13h/42: extended read
        mov dl, 0x80
        int 0x13
        mov si, 0x8000
.next:  lodsb
        cmp al, ' '             ; a line's end, or what was never written
        jb .said
        mov ah, 0x0e            ; INT 10h/0E: teletype
        mov bx, 7
        int 0x10
        jmp .next
.said:  cli
        hlt

        times 0x80 - ($ - $$) db 0
packet: db 16, 0
        dw 1, 0x8000, 0         ; one sector to 0000:8000
        dq 0

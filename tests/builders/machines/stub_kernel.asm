; A machine without an operating system that looks like one from outside: a boot sector loads prepared memory and a
; prepared picture, turns paging on, stores five values, and then does what it is told. All of it is data that
; stub_kernel.py fills in: the table of copies, the page tables' address, the values.
;   nasm -f bin -o stub.bin stub_kernel.asm: the boot sector, then STAGE_SECTORS sectors of second stage.
        bits 16
        org 0x7c00

STAGE_SECTORS   equ 15
PAYLOAD_LBA     equ 1 + STAGE_SECTORS
PAYLOAD         equ 0x10000     ; where the payload is loaded, below 0x80000

        cli
        xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        sti
        cld
        mov [drive], dl
        mov word [packet.count], STAGE_SECTORS
        mov word [packet.offset], 0x7e00
        mov dword [packet.lba], 1
        call read
        jmp stage

read:   mov si, packet          ; INT 13h/42: extended read
        mov ah, 0x42
        mov dl, [drive]
        int 0x13
        jc .bad
        ret
.bad:   mov ax, 0x0e00 + '!'
        int 0x10
        hlt
        jmp .bad

drive:  db 0
packet: db 16, 0
.count: dw 0
.offset: dw 0
.segment: dw 0
.lba:   dq 0

        times 510 - ($ - $$) db 0
        dw 0xaa55

stage:  jmp near go
        times 0x7e08 - 0x7c00 - ($ - $$) db 0
; What stub_kernel.py fills in, from offset 0x208 of the image.
mode:   dw 3                    ; VGA mode
paging: dw 0                    ; 0 none, 1 32-bit, 2 PAE, 3 long mode
then:   dw 0                    ; 0 spin, 1 halted for good, 2 reset
chunks: dw 0                    ; the payload in pieces of 64 sectors
planes: dd 0                    ; offset of four planes of 640 x 480 in the payload; 0: none
root:   dd 0                    ; CR3
poke:   dq 0                    ; virtual address that gets the five values; 0: none
values: times 5 dq 0
copies: dd 0                    ; how many rows follow: offset in the payload, physical address, bytes
table:  times 3 * 200 dd 0

go:     mov word [packet.count], 64
        mov word [packet.offset], 0
        mov word [packet.segment], PAYLOAD >> 4
        mov dword [packet.lba], PAYLOAD_LBA
        mov cx, [chunks]
        jcxz .loaded
.load:  push cx
        call read
        pop cx
        add word [packet.segment], 64 * 512 >> 4
        add dword [packet.lba], 64
        loop .load
.loaded:
        mov ax, [mode]
        int 0x10
        mov ax, 0x2401          ; INT 15h/2401: A20 on
        int 0x15
        cli
        lgdt [gdtr]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:protected

        bits 32
protected:
        mov ax, 16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov ecx, [copies]
        jecxz .copied
        mov ebx, table
.copy:  push ecx
        mov esi, [ebx]
        add esi, PAYLOAD
        mov edi, [ebx + 4]
        mov ecx, [ebx + 8]
        rep movsb
        add ebx, 12
        pop ecx
        loop .copy
.copied:
        cmp dword [planes], 0
        je .drawn
        mov esi, [planes]
        add esi, PAYLOAD
        mov bl, 1
.plane: mov dx, 0x3c4           ; sequencer: which plane is written
        mov al, 2
        mov ah, bl
        out dx, ax
        mov edi, 0xa0000
        mov ecx, 38400 / 4
        rep movsd
        add bl, bl
        cmp bl, 16
        jb .plane
.drawn:
        mov eax, [root]
        mov cr3, eax
        cmp word [paging], 0
        je .flat
        cmp word [paging], 2
        jb .page
        mov eax, cr4
        or al, 1 << 5           ; PAE
        mov cr4, eax
        cmp word [paging], 3
        jb .page
        mov ecx, 0xc0000080     ; EFER
        rdmsr
        or ah, 1                ; LME
        wrmsr
.page:  mov eax, cr0
        or eax, 0x80000000
        mov cr0, eax
        cmp word [paging], 3
        je near .long
.flat:  mov edi, [poke]
        test edi, edi
        jz .end
        mov esi, values
        mov ecx, 5
.word:  movsd                   ; a value has 8 bytes in the table, 4 in memory
        add esi, 4
        loop .word
        jmp .end
.long:  jmp 24:wide

.end:   cmp word [then], 1
        jb .spin
        je .dead
        mov al, 0xfe
        out 0x64, al
.dead:  hlt
        jmp .dead
.spin:  jmp .spin

        bits 64
wide:   mov rdi, [poke]
        test rdi, rdi
        jz .end
        mov esi, values
        mov ecx, 5
        rep movsq
.end:   jmp .end

        align 8
gdt:    dq 0
        dq 0x00cf9a000000ffff   ; 8: code, 32 bits
        dq 0x00cf92000000ffff   ; 16: data
        dq 0x00af9a000000ffff   ; 24: code, 64 bits
gdtr:   dw gdtr - gdt - 1
        dd gdt

        times (1 + STAGE_SECTORS) * 512 - ($ - $$) db 0

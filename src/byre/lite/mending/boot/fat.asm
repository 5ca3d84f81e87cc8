; The boot code of a FAT volume: it finds NTLDR, or ReactOS's FREELDR.SYS, in the root directory and starts it.
;
; Written for Byre from Microsoft's published description of FAT and by the BIOS's rules. One sector, whatever the kind:
; nasm -DFAT=12, 16 or 32, and -DREACTOS for FREELDR.SYS.
;
; What starts it: a master boot record, at 0:7C00 with the drive in DL.
; What it starts: NTLDR, whole, at 2000:0000, or FREELDR.SYS at 0:F800, with the drive in DL, 0 in DH, DS, ES and SS,
; SP 7C00, and the volume's first sector at 0:7C00. That is what public loaders give to NTLDR (GRUB's ntldr, SYSLINUX's
; chain.c32), and ReactOS 0.4's boot sectors to FREELDR.SYS, which looks for the active partition itself.
; What it can't start: what is larger than 448 KiB (FREELDR.SYS: 514), compressed by DriveSpace, or on a FAT that isn't
; the first one.
;
; It reads by LBA where the BIOS can, else by CHS in the geometry that the BIOS gives the drive. It needs an 80386,
; sectors of 512 bytes, and the first of the FATs in use.
;
; Assembled by 'tools/assemble_boot.py' into fat12.bin, fat16.bin, … which a test holds to this text.

        bits    16
        cpu     386
        org     0x7C00

; Addressed by BP, which is 7C00: the file system's fields, which are kept when this code is written …
%define cluster_sectors byte [bp + 0x0D]
%define reserved        word [bp + 0x0E]
%define fats            byte [bp + 0x10]
%define root_entries    word [bp + 0x11]
%define fat_sectors16   word [bp + 0x16]
%define hidden          dword [bp + 0x1C]
%define fat_sectors32   dword [bp + 0x24]
%define root_cluster    dword [bp + 0x2C]
%if FAT = 32
  %define drive         bp + 0x40       ; set here from DL; the byte behind it is 0
  CODE  equ 0x5A
%else
  %define drive         bp + 0x24
  CODE  equ 0x3E
%endif
; … and below them our own.
%define data            dword [bp - 4]  ; the first sector of cluster 2
OWN     equ 4

BUFFER  equ 0x800                       ; segment: a sector of a directory, or of a FAT (FAT12: two)
%ifdef REACTOS
  PLACE equ 0xF80                       ; segment: what is loaded
%else
  PLACE equ 0x2000
%endif
LIMIT   equ 0x90                        ; … and that times 100h: the segment that it must not reach

start:
        jmp     short code
        nop
        times CODE - ($ - $$) db 0      ; the file system's fields

code:
        cli
        xor     ax, ax
        mov     ss, ax
        mov     bp, start
        lea     sp, [bp - OWN]
        sti
        mov     ds, ax
        cld
        jmp     0:.here
.here:
        mov     dh, 0
        mov     [drive], dx

        movzx   eax, fats
%if FAT = 32
        mul     fat_sectors32
%else
        movzx   ecx, fat_sectors16
        mul     ecx
%endif
        movzx   ecx, reserved
        add     eax, ecx
%if FAT = 32
        mov     data, eax
        mov     eax, root_cluster
.cluster:
        push    eax
        call    locate
.sector:
        call    search
        loop    .sector
        pop     eax
        call    follow
        jb      .cluster
%else
        mov     cx, root_entries
        shr     cx, 4                   ; sectors of the root directory
        movzx   ebx, cx
        add     ebx, eax
        mov     data, ebx
.sector:
        call    search
        loop    .sector
%endif

missing:
        mov     si, no_loader
        jmp     say
bad:
        mov     si, unreadable
say:                                    ; what SI points to, and then nothing more
        lodsb
        test    al, al
.stop:
        jz      .stop
        mov     ah, 0x0E
        mov     bx, 7
        int     0x10
        jmp     say

; Look for the name in sector EAX; where it is there, go on there. EAX: the next sector. Keeps CX.
search:
        push    word BUFFER
        pop     es
        call    read
        xor     di, di
.entry:
        cmp     byte [es:di], 0         ; behind the last one
        je      missing
        pusha
        mov     si, file_name
        mov     cx, 11
        repe cmpsb
        popa
        jne     .next
        test    byte [es:di + 11], 0x18 ; a label or a folder
        jz      found
.next:
        add     di, 32
        cmp     di, 512
        jne     .entry
        ret

found:
%if FAT = 32
        push    word [es:di + 20]
        push    word [es:di + 26]
        pop     eax
%else
        movzx   eax, word [es:di + 26]
%endif
        push    word PLACE
        pop     es
.cluster:
        push    eax
        call    locate
.sector:
        call    read
        mov     dx, es
        add     dx, 512 / 16
        mov     es, dx
        cmp     dh, LIMIT
        jae     bad
        loop    .sector
        pop     eax
        call    follow
        jb      .cluster
        push    ss
        pop     es
        mov     dx, [drive]
        mov     sp, bp
%ifdef REACTOS
        jmp     0:PLACE * 16
%else
        jmp     PLACE:0
%endif

; EAX: the first sector of cluster EAX, CX: how many it has.
locate:
        dec     eax
        dec     eax
        js      bad
        movzx   ecx, cluster_sectors
        mul     ecx
        add     eax, data
        ret

; EAX: the cluster behind cluster EAX; CF where there is one.
follow:
        push    es
        push    word BUFFER
        pop     es
%if FAT = 12
        mov     bx, ax
        shr     bx, 1
        pushf                           ; CF: an odd one
        add     bx, ax                  ; two entries have three bytes
        movzx   eax, bh
        shr     al, 1
        and     bh, 1
        add     ax, reserved
        call    read
        mov     dx, es                  ; an entry may go on in the next sector
        add     dx, 512 / 16
        mov     es, dx
        call    read
        push    word BUFFER
        pop     es
        movzx   eax, word [es:bx]
        popf
        jnc     .even
        shr     ax, 4
.even:
        and     ah, 0x0F
        cmp     ax, 0xFF8
%elif FAT = 16
        movzx   ebx, al
        shr     eax, 8
        add     ax, reserved
        call    read
        movzx   eax, word [es:ebx * 2]
        cmp     ax, 0xFFF8
%else
        mov     bl, al
        and     ebx, 0x7F
        shr     eax, 7
        movzx   ecx, reserved
        add     eax, ecx
        call    read
        mov     eax, [es:ebx * 4]
        and     eax, 0x0FFFFFFF
        cmp     eax, 0x0FFFFFF8
%endif
        pop     es
        ret

; Sector EAX of the volume to ES:0; EAX: the next one. Keeps the other registers. By LBA, and where the BIOS can't, by
; CHS in the geometry that it gives the drive.
read:
        pushad
        push    es
        xor     ecx, ecx
        add     eax, hidden
        adc     ecx, ecx
        push    ecx                     ; the packet, from its end: LBA
        push    eax
        push    es
        push    cs                      ; offset 0
        push    word 1                  ; sector
        push    word 16                 ; the packet's size
        mov     si, sp
        mov     ah, 0x42
        mov     dl, [drive]
        int     0x13
        jnc     .done
        mov     ah, 8
        int     0x13                    ; changes ES, too
        jc      bad
        mov     es, [si + 6]
        mov     eax, [si + 8]
        movzx   ebx, dh                 ; the last head
        inc     bx
        and     ecx, 0x3F               ; sectors of a track
        xor     edx, edx
        div     ecx
        inc     dx
        mov     cx, dx                  ; the sector's number in its track
        xor     dx, dx
        div     ebx
        cmp     eax, 1023
        ja      bad
        mov     dh, dl                  ; the head
        mov     ch, al                  ; the cylinder: eight bits here, two above the sector's number
        shl     ah, 6
        or      cl, ah
        xor     bx, bx
        mov     ax, 0x0201
        mov     dl, [drive]
        int     0x13
        jc      bad
.done:
        lea     sp, [si + 16]
        pop     es
        popad
        inc     eax
        ret

%ifdef REACTOS
file_name       db "FREELDR SYS"
no_loader       db "FREELDR.SYS is missing", 0
%else
file_name       db "NTLDR      "
no_loader       db "NTLDR is missing", 0
%endif
unreadable      db "Disk error", 0

        times 510 - ($ - $$) db 0
        dw      0xAA55

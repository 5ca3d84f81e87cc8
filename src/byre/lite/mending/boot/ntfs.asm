; The boot code of an NTFS volume: it finds NTLDR in the root directory and starts it.
;
; Written for Byre from the published layout of NTFS (the MFT, its records, runs and indexes) and by the BIOS's rules.
; It lies in the file $Boot: the first sector, around the file system's fields, and the sectors behind it.
;
; What starts it: a master boot record, at 0:7C00 with the drive in DL.
; What it starts: NTLDR, whole, at 2000:0000 with the drive in DL, the other segments 0, SP 7C00, and the volume's
; first sector at 0:7C00. That is what public loaders give to NTLDR (GRUB's ntldr, SYSLINUX's chain.c32).
; What it can't do, it says: an NTLDR that is compressed, encrypted or sparse, or larger than 448 KiB; more than 2048
; runs of the MFT, the root's index or NTLDR; an attribute list larger than 20 KiB; sectors of other than 512 bytes.
;
; It needs an 80386. Sectors of the volume and clusters are 32 bits wide, what the BIOS is asked for by LBA is 64.
;
; Assembled by 'tools/assemble_boot.py' into ntfs.bin, which a test holds to this text.

        bits    16
        cpu     386
        org     0x7C00

; The file system's fields; they are kept when this code is written.
cluster_sectors equ 0x7C0D              ; byte: sectors in a cluster, a power of two up to 128
hidden          equ 0x7C1C              ; dword: the partition's first sector
drive           equ 0x7C24              ; byte: the BIOS's drive; set here from DL
mft_cluster     equ 0x7C30              ; dword of a qword
record_clusters equ 0x7C40              ; signed byte: clusters of a record, or minus the power of two of its bytes

; Memory. Below 0500 is the BIOS's; the master boot record's copy at 0600 is no longer needed.
packets         equ 0x600               ; byte: the BIOS reads by LBA
tries           equ 0x601               ; byte
track           equ 0x602               ; word: sectors of a track
heads           equ 0x604               ; word
record_sectors  equ 0x606               ; word
list_end        equ 0x608               ; word: behind the last entry of the attribute list
runs_end        equ 0x60A               ; word: behind the last row of the table that is filled
wanted_type     equ 0x60C               ; dword: the type of the attribute that is looked for
wanted_name     equ 0x610               ; byte: the length of its name
wanted_number   equ 0x612               ; word: its number in its record, FFFF for any
value           equ 0x614               ; word: where the value of a resident attribute lies in RECORD; 0 if not resident
size            equ 0x618               ; dword: bytes of the attribute that was collected
index_sectors   equ 0x61C               ; word: sectors of a block of the index
index_unit      equ 0x61E               ; word: sectors that a block's number counts
SECOND          equ 0x7E00              ; this code's other sectors, right behind the first
RECORD          equ 0xA000              ; a record of the MFT, up to 4 KiB
LIST            equ 0xB000              ; an attribute list, up to 20 KiB
LIST_SIZE       equ 0x5000
MFT_RUNS        equ 0x1000              ; segments: rows of two dwords, how many clusters and the first of them;
FILE_RUNS       equ 0x1400              ;   the last row has no clusters
INDEX           equ 0x1800              ; a block of the index, up to 32 KiB
LOADER          equ 0x2000              ; NTLDR
RUNS_SIZE       equ 0x4000
MAX_LOADER      equ 0x70000
MAX_DEPTH       equ 16                  ; blocks of the index from its root to its leaves

LIST_TYPE       equ 0x20
DATA_TYPE       equ 0x80
ROOT_TYPE       equ 0x90
BLOCKS_TYPE     equ 0xA0
ANY             equ 0xFFFF

start:
        jmp     short code
        nop
        times 0x54 - ($ - $$) db 0      ; the file system's fields

; ---------------------------------------------------------------------------------------------------------------------
; The first sector: reads the others.

code:
        cli
        xor     ax, ax
        mov     ss, ax
        mov     sp, start
        sti
        mov     ds, ax
        mov     es, ax
        cld
        jmp     0:.here
.here:
        mov     [drive], dl
        mov     byte [packets], 0
        mov     ah, 0x41                ; has the BIOS the extensions?
        mov     bx, 0x55AA
        int     0x13
        jc      .no_packets
        cmp     bx, 0xAA55
        jne     .no_packets
        test    cl, 1
        jz      .no_packets
        inc     byte [packets]
        jmp     .second
.no_packets:
        mov     ah, 8                   ; the geometry that the BIOS gives the drive
        mov     dl, [drive]
        int     0x13
        jc      disk_error
        and     cx, 0x3F
        jz      disk_error
        mov     [track], cx
        movzx   dx, dh
        inc     dx
        mov     [heads], dx
.second:
        xor     eax, eax
        inc     ax                      ; from the volume's second sector on
        mov     cx, (code_end - second) / 512
        mov     dx, SECOND / 16
        mov     es, dx
.next:
        call    read_sector
        call    forward
        loop    .next
        mov     si, not_whole
        mov     eax, MAGIC
        cmp     [second], eax
        jne     say
        cmp     [code_end - 4], eax
        jne     say
        jmp     find_loader

; Sector EAX of the volume to ES:0. Keeps every register.
read_sector:
        pushad
        mov     bp, sp
        mov     byte [tries], 3
.again:
        mov     eax, [bp + 28]          ; as pushad left it
        xor     ecx, ecx
        add     eax, [hidden]
        adc     ecx, ecx
        xor     bx, bx
        cmp     [packets], bl
        je      .chs
        push    ecx                     ; the packet, from its end: LBA
        push    eax
        push    es
        push    bx
        push    word 1                  ; sector
        push    word 16                 ; the packet's size
        mov     si, sp
        mov     ah, 0x42
        jmp     .read
.chs:
        jecxz   .short
        jmp     disk_error              ; beyond what CHS reaches
.short:
        xor     edx, edx
        movzx   ecx, word [track]
        div     ecx
        inc     dx
        push    dx                      ; the sector's number in its track
        xor     edx, edx
        movzx   ecx, word [heads]
        div     ecx
        cmp     eax, 1023
        ja      disk_error
        pop     cx
        mov     dh, dl                  ; the head
        mov     ch, al                  ; the cylinder: eight bits here, two above the sector's number
        shl     ah, 6
        or      cl, ah
        mov     ax, 0x0201
.read:
        mov     dl, [drive]
        int     0x13
        mov     sp, bp                  ; leaves the flags alone
        jnc     .done
        dec     byte [tries]
        jz      disk_error
        xor     ah, ah                  ; reset
        mov     dl, [drive]
        int     0x13
        jmp     .again
.done:
        popad
        ret

; From one sector and its place in memory to the next.
forward:
        inc     eax
        mov     dx, es
        add     dx, 512 / 16
        mov     es, dx
        ret

disk_error:
        mov     si, unreadable
say:                                    ; what SI points to, and then nothing more
        push    si
        mov     si, who
        call    .text
        pop     si
        call    .text
.stop:
        hlt
        jmp     .stop
.text:
        lodsb
        test    al, al
        jz      .done
        mov     ah, 0x0E
        mov     bx, 7
        int     0x10
        jmp     .text
.done:
        ret

who             db 13, 10, "Byre's boot code: ", 0
unreadable      db "A disk read error occurred", 0
not_whole       db "its other sectors are not there", 0

        times 510 - ($ - $$) db 0
        dw      0xAA55

; ---------------------------------------------------------------------------------------------------------------------
; The sectors behind it.

MAGIC           equ 'Byre'

second:
        dd      MAGIC
file_name       dw 'N', 'T', 'L', 'D', 'R'
NAME_LENGTH     equ ($ - file_name) / 2

find_loader:
        call    measure
        call    open_mft
        call    find_name               ; EAX: the record of NTLDR
        mov     bx, FILE_RUNS
        mov     ecx, DATA_TYPE
        call    collect
        jc      missing                 ; a folder of that name
        mov     eax, [size]
        test    eax, eax
        jz      missing
        cmp     eax, MAX_LOADER
        mov     si, too_large
        ja      say
        mov     dx, LOADER
        mov     es, dx
        cmp     word [value], 0
        je      .runs
        mov     si, [value]             ; it is so short that its record holds it
        mov     cx, ax
        xor     di, di
        rep movsb
        jmp     .start
.runs:
        add     eax, 511
        shr     eax, 9
        mov     cx, ax
        xor     eax, eax
        mov     bx, FILE_RUNS
        call    read_file
.start:
        xor     ax, ax
        mov     es, ax
        mov     fs, ax
        mov     gs, ax
        movzx   dx, byte [drive]
        jmp     LOADER:0

missing:
        mov     si, no_loader
        jmp     say
damaged:
        mov     si, unsound
        jmp     say

; How many sectors a record of the MFT has.
measure:
        movzx   cx, byte [cluster_sectors]
        mov     al, [record_clusters]
        test    al, al
        js      .power
        mul     cl
        jmp     .sectors
.power:
        neg     al
        mov     cl, al
        cmp     cl, 12
        ja      damaged
        mov     ax, 1
        shl     ax, cl
        shr     ax, 9
.sectors:
        mov     [record_sectors], ax
        dec     ax
        cmp     ax, 8                   ; 4 KiB are the most
        jae     damaged
        ret

; The runs of the MFT into MFT_RUNS. Its own record says where it lies, and that record is where the boot sector says.
open_mft:
        mov     ax, MFT_RUNS
        mov     es, ax
        mov     dword [es:0], 0x7FFFFFFF
        mov     eax, [mft_cluster]
        mov     [es:4], eax
        xor     eax, eax
        mov     bx, MFT_RUNS
        mov     ecx, DATA_TYPE
        call    collect
        jc      damaged
        cmp     word [value], 0
        jne     damaged
        ret

; ---------------------------------------------------------------------------------------------------------------------
; The root directory.

; EAX: the record that the name in the root stands for. A B-tree: every entry may have a block of what sorts before it.
find_name:
        mov     eax, 5                  ; the root directory's record
        mov     bx, FILE_RUNS
        mov     ecx, ROOT_TYPE
        call    collect
        jc      damaged
        mov     si, [value]
        test    si, si
        jz      damaged
        mov     ax, INDEX
        mov     es, ax
        xor     di, di
        mov     cx, 4096 / 4
        rep movsd
        mov     eax, [es:8]             ; bytes of a block
        shr     eax, 9
        jz      damaged
        cmp     eax, 64
        ja      damaged
        mov     [index_sectors], ax
        movzx   bx, byte [cluster_sectors]
        cmp     bx, ax                  ; blocks are counted in clusters, in sectors where a cluster is larger
        jbe     .unit
        mov     bx, 1
.unit:
        mov     [index_unit], bx
        mov     bx, 16                  ; the header's place in the root
        call    scan
        jnc     .found
        push    eax
        mov     eax, 5
        mov     bx, FILE_RUNS
        mov     ecx, BLOCKS_TYPE
        call    collect
        jc      damaged
        cmp     word [value], 0
        jne     damaged
        pop     eax
        mov     cx, MAX_DEPTH
.deeper:
        push    cx
        movzx   ecx, word [index_unit]
        mul     ecx
        mov     cx, INDEX
        mov     es, cx
        mov     cx, [index_sectors]
        mov     bx, FILE_RUNS
        push    es
        push    cx
        call    read_file
        pop     cx
        pop     es
        mov     eax, 'INDX'
        call    fix_up
        mov     bx, 24                  ; the header's place in a block
        call    scan
        pop     cx
        jnc     .found
        loop    .deeper
        jmp     damaged
.found:
        ret

; The entries of a node; its header is at ES:BX. EAX: the record where the name is there, else, with CF, the block in
; which it would be.
scan:
        mov     dx, [es:bx + 4]         ; where they end
        add     dx, bx
        cmp     dx, 0x8000              ; larger than a block may be
        ja      damaged
        mov     si, [es:bx]
        add     si, bx
.entry:
        lea     di, [si + 16]
        cmp     di, dx
        ja      damaged
        mov     cx, [es:si + 12]
        test    cl, 2                   ; the last one, which has no name
        jnz     .before
        call    compare
        je      .here
        jb      .before
        mov     ax, [es:si + 8]
        cmp     ax, 16
        jb      damaged
        add     si, ax
        jc      damaged
        jmp     .entry
.before:
        test    cl, 1                   ; has it a block?
        jz      missing
        add     si, [es:si + 8]
        mov     eax, [es:si - 8]
        stc
        ret
.here:
        mov     eax, [es:si]
        clc
        ret

; Compare our name with that of the entry at ES:SI, as names sort: by letters without their case, then by length.
compare:
        push    cx
        push    si
        movzx   cx, byte [es:si + 0x50]
        push    cx
        cmp     cx, NAME_LENGTH
        jbe     .shorter
        mov     cx, NAME_LENGTH
.shorter:
        jcxz    .length
        mov     di, file_name
.letter:
        mov     ax, [es:si + 0x52]
        cmp     ax, 'a'
        jb      .upper
        cmp     ax, 'z'
        ja      .upper                  ; no letter beyond ASCII has one of ours as its capital
        sub     al, 'a' - 'A'
.upper:
        cmp     [di], ax
        jne     .differ
        add     si, 2
        add     di, 2
        loop    .letter
.length:
        pop     cx
        mov     ax, NAME_LENGTH
        cmp     ax, cx
        pop     si
        pop     cx
        ret
.differ:
        pop     si                      ; leaves the flags alone, and so do the next two
        pop     si
        pop     cx
        ret

; ---------------------------------------------------------------------------------------------------------------------
; Records and their attributes.

; The attribute of type ECX of the record EAX, its runs into the table of segment BX; value and size say the rest. An
; unnamed one where ECX is DATA_TYPE, else one with a name of four letters, which is $I30. CF: there is none.
collect:
        mov     [wanted_type], ecx
        mov     byte [wanted_name], 0
        cmp     cl, DATA_TYPE
        je      .unnamed
        mov     byte [wanted_name], 4
.unnamed:
        mov     word [wanted_number], ANY
        call    load_record
        call    find_list
        jnc     .listed
        mov     word [runs_end], 0
        call    find_attribute
        jc      .none
        call    take
        clc
.none:
        ret

; The attribute's pieces may lie in several records: the list names them in the order of what they hold.
.listed:
        push    bx
        call    load_list
        pop     bx
        mov     word [runs_end], 0
        mov     si, LIST
        stc                             ; until there is a piece
        pushf
.entry:
        cmp     si, [list_end]
        jae     .done
        mov     eax, [wanted_type]
        cmp     [si], eax
        jne     .next
        mov     al, [wanted_name]
        cmp     [si + 6], al
        jne     .next
        mov     ax, [si + 0x18]
        mov     [wanted_number], ax
        mov     eax, [si + 0x10]        ; the record
        push    si
        call    load_record
        call    find_attribute
        jc      damaged
        call    take
        pop     si
        popf
        clc
        pushf
.next:
        mov     ax, [si + 4]
        cmp     ax, 0x1A
        jb      damaged
        add     si, ax
        jnc     .entry
        jmp     damaged
.done:
        popf
        ret

; The attribute list of the record in RECORD to LIST, through FILE_RUNS where it isn't resident. SI: the attribute.
load_list:
        mov     bx, FILE_RUNS
        mov     word [runs_end], 0
        call    take
        mov     eax, [size]
        cmp     eax, LIST_SIZE
        mov     si, scattered
        jae     say
        mov     cx, ax
        add     ax, LIST
        mov     [list_end], ax
        mov     ax, LIST / 16
        mov     es, ax
        mov     si, [value]
        test    si, si
        jz      .runs
        xor     di, di
        rep movsb
        ret
.runs:
        add     cx, 511
        shr     cx, 9
        xor     eax, eax
        mov     bx, FILE_RUNS
        jmp     read_file

; The attribute list in RECORD to SI; CF where there is none. It has no name.
find_list:
        push    dword [wanted_type]
        push    word [wanted_name]
        mov     dword [wanted_type], LIST_TYPE
        mov     byte [wanted_name], 0
        call    find_attribute
        pop     word [wanted_name]
        pop     dword [wanted_type]
        ret

; The attribute that is wanted, in RECORD, to SI; CF where there is none.
find_attribute:
        mov     si, [RECORD + 0x14]
        add     si, RECORD
.next:
        mov     cx, [record_sectors]
        shl     cx, 9
        add     cx, RECORD - 0x18       ; the last place where a header has room
        cmp     si, cx
        ja      .none
        mov     eax, [si]
        cmp     eax, [wanted_type]
        ja      .none                   ; they are sorted; FFFFFFFF is the end
        jb      .other
        mov     al, [wanted_name]
        cmp     [si + 9], al
        jne     .other
        mov     ax, [wanted_number]
        cmp     ax, ANY
        je      .found
        cmp     [si + 14], ax
        je      .found
.other:
        mov     ax, [si + 4]
        cmp     ax, 0x18
        jb      .none
        add     si, ax
        jnc     .next
.none:
        stc
        ret
.found:
        clc
        ret

; What the attribute at SI says: value and size, and its runs behind those that the table of segment BX has already.
take:
        cmp     byte [si], DATA_TYPE
        jne     .plain
        cmp     word [si + 12], 0       ; its flags
        je      .plain
        mov     si, compressed
        jmp     say
.plain:
        mov     word [value], 0
        cmp     byte [si + 8], 0
        jne     .runs
        mov     eax, [si + 16]
        mov     [size], eax
        cmp     eax, 4096
        ja      damaged
        mov     ax, [si + 20]
        add     ax, si
        mov     [value], ax
        ret
.runs:
        mov     es, bx
        mov     di, [runs_end]
        cmp     dword [si + 16], 0      ; only the first piece knows the size
        jne     .continued
        mov     eax, [si + 48]
        mov     [size], eax
        cmp     dword [si + 52], 0
        jne     damaged
.continued:
        add     si, [si + 32]
        xor     edx, edx                ; each piece counts its clusters from 0
.run:
        lodsb
        mov     ah, al
        and     al, 0x0F                ; bytes of the length; none ends the runs
        jz      .end
        shr     ah, 4                   ; bytes of the place
        mov     cl, al
        push    ax
        call    number
        mov     [es:di], eax
        pop     cx
        mov     cl, ch
        mov     eax, -1
        test    cl, cl
        jz      .hole
        call    number
        add     edx, eax
        mov     eax, edx
.hole:
        mov     [es:di + 4], eax
        add     di, 8
        cmp     di, RUNS_SIZE - 8
        jb      .run
        mov     si, scattered
        jmp     say
.end:
        mov     dword [es:di], 0
        mov     [runs_end], di
        ret

; EAX: the signed number in CL bytes at SI, its low 32 bits.
number:
        mov     eax, [si]
        xor     ch, ch
        add     si, cx
        neg     cl
        add     cl, 4
        jle     .whole
        shl     cl, 3
        shl     eax, cl
        sar     eax, cl
.whole:
        ret

; Record EAX of the MFT to RECORD. Keeps BX.
load_record:
        push    bx
        movzx   ecx, word [record_sectors]
        mul     ecx
        mov     bx, RECORD / 16
        mov     es, bx
        mov     bx, MFT_RUNS
        push    es
        push    cx
        call    read_file
        pop     cx
        pop     es
        mov     eax, 'FILE'
        call    fix_up
        pop     bx
        test    byte [RECORD + 0x16], 1 ; in use
        jz      damaged
        ret

; Put back what the last word of each sector was, in the CX sectors at ES:0, which must begin with EAX.
fix_up:
        cmp     [es:0], eax
        jne     damaged
        inc     cx
        cmp     [es:6], cx
        jne     damaged
        dec     cx
        mov     si, [es:4]
        cmp     si, 510 - 2 * 65
        ja      damaged
        mov     ax, [es:si]
        mov     di, 510
.sector:
        inc     si
        inc     si
        cmp     [es:di], ax
        jne     damaged                 ; written only in part
        mov     dx, [es:si]
        mov     [es:di], dx
        add     di, 512
        loop    .sector
        ret

; ---------------------------------------------------------------------------------------------------------------------
; Files.

; CX sectors from sector EAX on of the file whose runs are in segment BX, to ES:0.
read_file:
        mov     fs, bx
        jcxz    .done
.next:
        push    eax
        call    place
        call    read_sector
        pop     eax
        call    forward
        loop    .next
.done:
        ret

; EAX: the sector of the volume where sector EAX of the file lies whose runs are in segment FS. Keeps the others.
place:
        push    ebx
        push    ecx
        push    edx
        push    di
        movzx   ecx, byte [cluster_sectors]
        xor     edx, edx
        div     ecx                     ; EAX: cluster of the file, EDX: sector in it
        xor     di, di
.run:
        mov     ebx, [fs:di]
        test    ebx, ebx
        jz      damaged                 ; behind its end
        cmp     eax, ebx
        jb      .here
        sub     eax, ebx
        add     di, 8
        jmp     .run
.here:
        mov     ebx, [fs:di + 4]
        cmp     ebx, -1
        je      damaged                 ; a hole
        add     eax, ebx
        push    edx
        mul     ecx
        pop     edx
        add     eax, edx
        pop     di
        pop     edx
        pop     ecx
        pop     ebx
        ret

no_loader       db "NTLDR is missing", 0
compressed      db "NTLDR is compressed, encrypted or sparse", 0
too_large       db "NTLDR is too large", 0
scattered       db "a file lies in too many pieces", 0
unsound         db "the file system is damaged", 0

        align   4, db 0
        times (508 - ($ - $$) % 512 + 512) % 512 db 0
        dd      MAGIC                   ; so that a part which is missing is seen
code_end:

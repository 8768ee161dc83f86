# A guest in one boot sector, for tests that want a machine in half a second: talks on the first serial port and obeys the power
# button. Commands are single characters; anything else comes back as it is.
#   w   writes sector 1 of its disk: the character that follows, 512 times; answers W
#   r   reads sector 1, answers with its first byte
#   s   keeps the character that follows in memory      g   gives it back, at first "-"
#   f   fills 512 KiB of memory, answers F
#   p   powers off      b   resets
#   v   fills the screen with red (320 by 200 points); answers V
# A key of its keyboard comes as k and its character.
	.code16
	.globl _start
_start:
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	mov %dl, drive
	mov $0x602, %dx		# PM1 enable: the power button (PMBASE of SeaBIOS is 0x600)
	mov $0x100, %ax
	out %ax, %dx
	mov $hello, %si
	call puts
next:
	sti
	hlt			# until the timer ticks
again:
	mov $0x600, %dx
	in %dx, %ax
	test $1, %ah
	jnz off
	mov $0x3fd, %dx
	in %dx, %al
	test $1, %al
	jz keyboard
	call getc
	cmp $'w', %al
	je write
	cmp $'r', %al
	je read
	cmp $'s', %al
	je set
	cmp $'g', %al
	je get
	cmp $'f', %al
	je fill
	cmp $'p', %al
	je off
	cmp $'b', %al
	je reset
	cmp $'v', %al
	je video
	call putc
	jmp again
keyboard:
	mov $1, %ah
	int $0x16
	jz next
	mov $'k', %al
	call putc
	mov $0, %ah
	int $0x16
	call putc
	jmp again
video:
	mov $0x13, %ax
	int $0x10
	push %es
	mov $0xa000, %cx
	mov %cx, %es
	xor %di, %di
	mov $64000, %cx
	mov $4, %al
	rep stosb
	pop %es
	mov $'V', %al
	call putc
	jmp again
write:
	call wait
	mov $0x8000, %di
	mov $512, %cx
	rep stosb
	mov $0x0301, %ax
	call disk
	mov $'W', %al
	call putc
	jmp again
read:
	mov $0x0201, %ax
	call disk
	mov 0x8000, %al
	call putc
	jmp again
set:
	call wait
	mov %al, kept
	jmp again
get:
	mov kept, %al
	call putc
	jmp again
fill:
	push %es
	mov $0x1000, %bx
1:	mov %bx, %es
	xor %di, %di
	mov $0x8000, %cx
	mov $0x5a5a, %ax
	rep stosw
	add $0x1000, %bx
	cmp $0x9000, %bx
	jne 1b
	pop %es
	mov $'F', %al
	call putc
	jmp again
reset:
	mov $0xcf9, %dx
	mov $6, %al
	out %al, %dx
	jmp next
off:
	mov $bye, %si
	call puts
	mov $0x604, %dx
	mov $0x2000, %ax
	out %ax, %dx
	jmp next

disk:				# ax: function and count; sector 1
	mov $0x8000, %bx
	mov $0x0002, %cx
	mov drive, %dl
	mov $0, %dh
	int $0x13
	jnc 1f
	mov $'E', %al
	call putc
1:	ret
wait:
	mov $0x3fd, %dx
1:	in %dx, %al
	test $1, %al
	jz 1b
getc:
	mov $0x3f8, %dx
	in %dx, %al
	ret
puts:
	lodsb
	test %al, %al
	jz 1f
	call putc
	jmp puts
1:	ret
putc:
	push %ax
	mov $0x3fd, %dx
1:	in %dx, %al
	test $0x20, %al
	jz 1b
	pop %ax
	mov $0x3f8, %dx
	out %al, %dx
	ret

hello:	.asciz "tiny guest is up\r\n"
bye:	.asciz "powering off\r\n"
drive:	.byte 0
kept:	.byte '-'
	.org 510
	.word 0xaa55

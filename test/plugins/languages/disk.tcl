# A disk in Tcl, which insists on being used by the thread that has made its interpreter, and
# says every call.
set disk [binary format x1048576]

proc say {text} {
    puts stderr $text
}

proc load {} { say load }
proc unload {} { say unload }
proc dump_plugin {} { puts "tcl=$::tcl_version" }

proc config {key value} {
    if {$key ne "word"} { error "no parameter $key" }
    say "config $key $value"
}

proc config_complete {} { say "config_complete [clock format 0 -gmt 1 -format %Y]" }

proc plugin_open {readonly} {
    say "open $readonly"
    return "handle"
}

proc plugin_close {handle} { say close }
proc get_size {handle} { return 1048576 }

proc pread {handle count offset} {
    if {$offset == 666 * 512} { error "this sector is cursed" }
    return [string range $::disk $offset [expr {$offset + $count - 1}]]
}

proc pwrite {handle data offset} {
    set last [expr {$offset + [string length $data] - 1}]
    set ::disk [string replace $::disk $offset $last $data]
}

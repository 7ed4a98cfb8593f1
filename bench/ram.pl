# A disk in memory for nbdkit's perl plugin, to compare with examples/ram.ts.
use strict;
use warnings;

our $API_VERSION = 2;
my $disk;

sub config {
    my ($key, $value) = @_;
    die "unknown parameter $key" unless $key eq "size";
    $value =~ /^(\d+)([KMG]?)$/ or die "size=$value is not a size";
    my %units = ("" => 1, K => 1 << 10, M => 1 << 20, G => 1 << 30);
    $disk = "\0" x ($1 * $units{$2});
}

sub open { return {}; }

sub get_size { return length $disk; }

sub pread {
    my ($handle, $count, $offset, $flags) = @_;
    return substr($disk, $offset, $count);
}

sub pwrite {
    my ($handle, $buf, $offset, $flags) = @_;
    substr($disk, $offset, length $buf) = $buf;
}

sub can_write { return 1; }

# A disk in Perl that needs XS modules; it says every call. Threads that serve clients are none of
# Perl's: there, functions of XS modules crash, and so does print. That is so with nbdkit's plugin.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Fcntl qw(:seek);
use List::Util qw(sum);
use POSIX qw(floor);
use Socket;
use Time::HiRes qw(time);

my $disk = "\0" x (1 << 20);
my @said;
STDERR->autoflush;

print STDERR "the script runs ", sha256_hex("disk"), "\n";
END { print STDERR "$_\n" for @said, "the interpreter ends"; }

sub dump_plugin { print "floor=", floor(2.5), "\n"; }

sub config {
    my ($key, $value) = @_;
    die "no parameter $key" unless $key eq "word";
    print STDERR "config $key $value\n";
}

sub config_complete { print STDERR "config_complete ", sum(1, 2, 3), " ", SEEK_END, "\n"; }
sub get_ready { print STDERR "get_ready ", length(inet_aton("127.0.0.1")), " ", time > 1, "\n"; }

sub open {
    my ($readonly) = @_;
    push @said, "open " . ($readonly ? 1 : 0);
    return { readonly => $readonly };
}

sub close { push @said, "close"; }
sub get_size { return length $disk; }
sub can_write { return 1; }

sub pread {
    my ($handle, $count, $offset, $flags) = @_;
    if ($offset == 666 * 512) {
        Nbdkit::set_error(28);
        die "this sector is cursed";
    }
    return substr($disk, $offset, $count);
}

sub pwrite {
    my ($handle, $data, $offset, $flags) = @_;
    substr($disk, $offset, length $data) = $data;
}

sub zero {
    my ($handle, $count, $offset, $flags) = @_;
    substr($disk, $offset, $count) = "\0" x $count;
}

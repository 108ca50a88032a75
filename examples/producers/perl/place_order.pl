# Places an order and records that it was placed: both, or neither. Needs DBD::Pg.
#
#     perl place_order.pl 'dbi:Pg:host=localhost;dbname=shop' 42 99.50

use v5.20;
use warnings;

use DBI;
use JSON::PP;

sub place_order {
    my ($connection, $order_id, $total) = @_;
    $connection->begin_work;
    eval {
        $connection->do("insert into orders (id, total, status) values (?, ?, 'placed')", undef, $order_id, $total);
        # After the statement that inserts or locks the order, so that its events stay in order.
        $connection->do(
            'insert into outbox.events (type, aggregate_type, aggregate_id, payload) values (?, ?, ?, ?)',
            undef, 'order.placed', 'order', $order_id, encode_json({ order_id => $order_id + 0, total => $total }),
        );
        $connection->commit;
        1;
    } or do {
        my $error = $@;
        $connection->rollback;
        die $error;
    };
}

my ($dsn, $order_id, $total) = @ARGV;
my $connection = DBI->connect($dsn, undef, undef, { RaiseError => 1, PrintError => 0 });
place_order($connection, $order_id, $total);
$connection->disconnect;

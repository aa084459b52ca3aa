import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.Stores;

/** Sums per minute with Kafka Streams' DSL, exactly once, per store and per product: args are servers, group, source, topics
 *  for stores and products, schema file, state directory, threads. Keys are the stores: only for products are sales sent
 *  through Kafka again. */
public final class WindowsStreams {
  static final int HEADER_BYTES = 5;
  static final Duration SIZE = Duration.ofSeconds(60);
  static final Duration GRACE = Duration.ofSeconds(70);

  record Sale(long time, int product, int quantity, long cents) {}

  /** Count, quantity, cents. */
  static final class Sums {
    static long[] add(long[] sums, Sale sale) {
      return new long[] {sums[0] + 1, sums[1] + sale.quantity, sums[2] + sale.cents};
    }

    static Serde<long[]> serde() {
      return Serdes.serdeFrom(
          (topic, sums) -> ByteBuffer.allocate(24).putLong(sums[0]).putLong(sums[1]).putLong(sums[2]).array(),
          (topic, bytes) -> {
            var buffer = ByteBuffer.wrap(bytes);
            return new long[] {buffer.getLong(), buffer.getLong(), buffer.getLong()};
          });
    }
  }

  static Deserializer<Sale> decoder(Schema schema) {
    var reader = new GenericDatumReader<GenericRecord>(schema);
    var decoders = new ThreadLocal<BinaryDecoder>();
    var sales = new ThreadLocal<GenericRecord>();
    return (topic, value) -> {
      try {
        var decoder = DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, decoders.get());
        decoders.set(decoder);
        GenericRecord sale = reader.read(sales.get(), decoder);
        sales.set(sale);
        long cents = Math.round((Double) sale.get("total_amount") * 100);
        long time = (Long) sale.get("event_time") / 1000;
        return new Sale(time, (Integer) sale.get("product_id"), (Integer) sale.get("quantity"), cents);
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    };
  }

  public static final class EventTime implements TimestampExtractor {
    @Override
    public long extract(ConsumerRecord<Object, Object> record, long partitionTime) {
      return ((Sale) record.value()).time();
    }
  }

  static String line(Windowed<String> window, long[] sums) {
    return window.window().start() / 1000 + "@" + window.key() + "=" + sums[0] + "," + sums[1] + "," + sums[2];
  }

  /** What is sent on again: 24 bytes. */
  static Serde<Sale> small() {
    return Serdes.serdeFrom(
        (topic, s) -> ByteBuffer.allocate(24).putLong(s.time).putInt(s.product).putInt(s.quantity).putLong(s.cents).array(),
        (topic, bytes) -> {
          var buffer = ByteBuffer.wrap(bytes);
          return new Sale(buffer.getLong(), buffer.getInt(), buffer.getInt(), buffer.getLong());
        });
  }

  static void sum(String name, KGroupedStream<String, Sale> sales, String output) {
    sales
        .windowedBy(TimeWindows.ofSizeAndGrace(SIZE, GRACE))
        .aggregate(
            () -> new long[3],
            (id, one, sums) -> Sums.add(sums, one),
            Materialized.<String, long[]>as(Stores.inMemoryWindowStore(name, SIZE.plus(GRACE).multipliedBy(2), SIZE, false))
                .withKeySerde(Serdes.String())
                .withValueSerde(Sums.serde()))
        .toStream()
        .map((window, sums) -> KeyValue.pair(window.key(), line(window, sums)))
        .to(output, Produced.with(Serdes.String(), Serdes.String()));
  }

  public static void main(String[] args) throws Exception {
    Schema schema = new Schema.Parser().parse(Files.readString(Path.of(args[5])));
    Serde<Sale> raw = Serdes.serdeFrom((topic, value) -> null, decoder(schema));
    StreamsBuilder builder = new StreamsBuilder();
    KStream<String, Sale> sales =
        builder.stream(args[2], Consumed.with(Serdes.String(), raw).withTimestampExtractor(new EventTime()));
    sum("stores", sales.groupByKey(Grouped.with(Serdes.String(), small())), args[3]);
    sum(
        "products",
        sales.groupBy((store, sale) -> Integer.toString(sale.product), Grouped.with("products", Serdes.String(), small())),
        args[4]);
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, args[6]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args[7]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }
}

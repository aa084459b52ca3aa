import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** Sums per minute with Flink's DataStream API in one JVM, per store and per product, state exactly once by a checkpoint a
 *  second: args are servers, group, source, topics for stores and products, schema file, state directory, parallelism.
 *  Results are sent on at least once. */
public final class WindowsFlink {
  static final int HEADER_BYTES = 5;

  public static final class Sale {
    public int store;
    public int product;
    public long time;
    public long quantity;
    public long cents;
  }

  public static final class Sums {
    public long count;
    public long quantity;
    public long cents;
  }

  static final class Decoder extends AbstractDeserializationSchema<Sale> {
    private final String text;
    private transient GenericDatumReader<GenericRecord> reader;
    private transient BinaryDecoder decoder;
    private transient GenericRecord record;

    Decoder(String text) {
      super(Sale.class);
      this.text = text;
    }

    @Override
    public Sale deserialize(byte[] value) throws IOException {
      if (reader == null) {
        reader = new GenericDatumReader<>(new Schema.Parser().parse(text));
      }
      decoder = DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, decoder);
      record = reader.read(record, decoder);
      Sale sale = new Sale();
      sale.store = (Integer) record.get("store_id");
      sale.product = (Integer) record.get("product_id");
      sale.time = (Long) record.get("event_time") / 1000;
      sale.quantity = (Integer) record.get("quantity");
      sale.cents = Math.round((Double) record.get("total_amount") * 100);
      return sale;
    }
  }

  static final class Add implements AggregateFunction<Sale, Sums, Sums> {
    @Override
    public Sums createAccumulator() {
      return new Sums();
    }

    @Override
    public Sums add(Sale sale, Sums sums) {
      sums.count++;
      sums.quantity += sale.quantity;
      sums.cents += sale.cents;
      return sums;
    }

    @Override
    public Sums getResult(Sums sums) {
      return sums;
    }

    @Override
    public Sums merge(Sums a, Sums b) {
      a.count += b.count;
      a.quantity += b.quantity;
      a.cents += b.cents;
      return a;
    }
  }

  static final class Line extends ProcessWindowFunction<Sums, String, Integer, TimeWindow> {
    @Override
    public void process(Integer id, Context context, Iterable<Sums> all, Collector<String> out) {
      for (Sums sums : all) {
        String window = context.window().getStart() / 1000 + "@" + id;
        out.collect(window + "=" + sums.count + "," + sums.quantity + "," + sums.cents);
      }
    }
  }

  static void sum(KeyedStream<Sale, Integer> sales, String servers, String output) {
    KafkaSink<String> sink =
        KafkaSink.<String>builder()
            .setBootstrapServers(servers)
            .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
            .setProperty("compression.type", "lz4")
            .setRecordSerializer(
                KafkaRecordSerializationSchema.<String>builder()
                    .setTopic(output)
                    .setKeySerializationSchema((String line) -> line.substring(0, line.indexOf('=')).getBytes())
                    .setValueSerializationSchema(new SimpleStringSchema())
                    .build())
            .build();
    sales
        .window(TumblingEventTimeWindows.of(Duration.ofSeconds(60)))
        .allowedLateness(Duration.ofSeconds(60))
        .aggregate(new Add(), new Line())
        .sinkTo(sink);
  }

  public static void main(String[] args) throws Exception {
    Configuration configuration = new Configuration();
    configuration.setString("execution.checkpointing.dir", Path.of(args[6]).toUri().toString());
    configuration.setString("state.backend.type", "hashmap");
    configuration.setString("pipeline.object-reuse", "true");
    configuration.setString("rest.bind-address", "127.0.0.1");
    StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(Integer.parseInt(args[7]), configuration);
    env.enableCheckpointing(1000, CheckpointingMode.EXACTLY_ONCE);
    KafkaSource<Sale> source =
        KafkaSource.<Sale>builder()
            .setBootstrapServers(args[0])
            .setGroupId(args[1])
            .setTopics(args[2])
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setValueOnlyDeserializer(new Decoder(Files.readString(Path.of(args[5]))))
            .build();
    WatermarkStrategy<Sale> watermarks =
        WatermarkStrategy.<Sale>forBoundedOutOfOrderness(Duration.ofSeconds(10))
            .withTimestampAssigner((sale, timestamp) -> sale.time);
    DataStream<Sale> sales = env.fromSource(source, watermarks, "sales");
    sum(sales.keyBy(sale -> sale.store), args[0], args[3]);
    sum(sales.keyBy(sale -> sale.product), args[0], args[4]);
    env.execute("windows");
  }
}

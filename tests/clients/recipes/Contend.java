import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.data.Stat;

/** Contend SERVERS ROUNDS: takes Curator's mutex at /lock and checks by /checker that nobody else is inside. */
public class Contend {
    public static void main(String[] args) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 20000, 60000, new RetryForever(100));
        client.start();
        InterProcessMutex mutex = new InterProcessMutex(client, "/lock");
        for (int round = Integer.parseInt(args[1]); round > 0; round--) {
            if (!mutex.acquire(60, TimeUnit.SECONDS)) throw new AssertionError("not acquired");
            Stat stat = new Stat();
            String data = new String(client.getData().storingStatIn(stat).forPath("/checker"));
            if (!data.equals("free")) throw new AssertionError(data + " is inside");
            client.setData().withVersion(stat.getVersion()).forPath("/checker", "Curator".getBytes());
            client.setData().withVersion(stat.getVersion() + 1).forPath("/checker", "free".getBytes());
            mutex.release();
        }
        client.close();
    }
}

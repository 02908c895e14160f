import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.barriers.DistributedBarrier;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.leader.LeaderSelector;
import org.apache.curator.framework.recipes.leader.LeaderSelectorListenerAdapter;
import org.apache.curator.framework.recipes.locks.InterProcessLock;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.recipes.locks.InterProcessReadWriteLock;
import org.apache.curator.framework.recipes.locks.InterProcessSemaphoreV2;
import org.apache.curator.framework.recipes.locks.Lease;
import org.apache.curator.retry.RetryForever;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.data.Stat;

/** Contend WHAT SERVERS ROUNDS: takes its turns under a recipe of Curator's and checks that it is alone, or not one too many. */
public class Contend {
    static final int LEASES = 2;
    static CuratorFramework client;

    interface Turn {
        void run() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        client = CuratorFrameworkFactory.newClient(args[1], 20000, 60000, new RetryForever(100));
        client.start();
        int rounds = Integer.parseInt(args[2]);
        switch (args[0]) {
            case "lock" -> {
                InterProcessMutex mutex = new InterProcessMutex(client, "/lock");
                for (int i = 0; i < rounds; i++) under(mutex, Contend::alone);
            }
            case "read-write" -> {
                InterProcessReadWriteLock lock = new InterProcessReadWriteLock(client, "/lock");
                for (int i = 0; i < rounds; i++) {
                    under(lock.writeLock(), Contend::alone);
                    under(lock.readLock(), Contend::noWriter);
                }
            }
            case "semaphore" -> {
                InterProcessSemaphoreV2 semaphore = new InterProcessSemaphoreV2(client, "/leases", LEASES);
                for (int i = 0; i < rounds; i++) {
                    Lease lease = semaphore.acquire(60, TimeUnit.SECONDS);
                    check(lease != null, "no lease");
                    notTooMany();
                    semaphore.returnLease(lease);
                }
            }
            case "latch" -> {
                for (int i = 0; i < rounds; i++) {
                    try (LeaderLatch latch = new LeaderLatch(client, "/election")) {
                        latch.start();
                        check(latch.await(60, TimeUnit.SECONDS), "not elected");
                        alone();
                    }
                }
            }
            case "selector" -> lead(rounds);
            case "barrier" -> barrier();
            default -> throw new IllegalArgumentException(args[0]);
        }
        client.close();
    }

    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    static void under(InterProcessLock lock, Turn turn) throws Exception {
        check(lock.acquire(60, TimeUnit.SECONDS), "not acquired");
        turn.run();
        lock.release();
    }

    static void alone() throws Exception {
        Stat stat = new Stat();
        byte[] data = client.getData().storingStatIn(stat).forPath("/checker");
        check(Arrays.equals(data, "free".getBytes()), new String(data) + " is inside");
        client.setData().withVersion(stat.getVersion()).forPath("/checker", "Curator".getBytes());
        client.setData().withVersion(stat.getVersion() + 1).forPath("/checker", "free".getBytes());
    }

    static void noWriter() throws Exception {
        Stat before = new Stat();
        byte[] data = client.getData().storingStatIn(before).forPath("/checker");
        check(Arrays.equals(data, "free".getBytes()), new String(data) + " is inside");
        check(client.checkExists().forPath("/checker").getVersion() == before.getVersion(), "a writer beside a reader");
    }

    static void notTooMany() throws Exception {
        String own = client.create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL).forPath("/inside/c-");
        int inside = client.getChildren().forPath("/inside").size();
        check(inside <= LEASES, inside + " are inside");
        client.delete().forPath(own);
    }

    static void lead(int rounds) throws Exception {
        CountDownLatch left = new CountDownLatch(rounds);
        Exception[] failed = new Exception[1];
        LeaderSelector selector = new LeaderSelector(client, "/lock", new LeaderSelectorListenerAdapter() {
            @Override
            public void takeLeadership(CuratorFramework client) {
                if (left.getCount() == 0) return;
                try {
                    alone();
                } catch (Exception why) {
                    failed[0] = why;
                }
                left.countDown();
            }
        });
        selector.autoRequeue();
        selector.start();
        check(left.await(120, TimeUnit.SECONDS), "not elected");
        selector.close();
        if (failed[0] != null) throw failed[0];
    }

    static void barrier() throws Exception {
        DistributedBarrier barrier = new DistributedBarrier(client, "/barrier");
        client.create().forPath("/waits");
        check(barrier.waitOnBarrier(60, TimeUnit.SECONDS), "not opened");
        client.create().forPath("/passed");
        barrier.setBarrier();
        client.create().forPath("/closed");
        while (client.checkExists().forPath("/open") == null) Thread.onSpinWait();
        barrier.removeBarrier();
    }
}

import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;

/** ZooKeeper's own client, led by lines on standard input; one line of answer to each. */
public class Modes {
    public static void main(String[] args) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        ZooKeeper zk = null;
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("open")) {
                zk = new ZooKeeper(words[1], 20000, event -> { }, words[2].equals("ro"));
                System.out.println("ok");
            } else {
                System.out.println(carryOut(zk, words));
            }
            System.out.flush();
        }
    }

    private static String carryOut(ZooKeeper zk, String[] words) throws Exception {
        try {
            switch (words[0]) {
                case "state":
                    return zk.getState() + " " + Long.toHexString(zk.getSessionId());
                case "get":
                    return "ok " + new String(zk.getData(words[1], false, null));
                case "create":
                    CreateMode mode = words[2].equals("e") ? CreateMode.EPHEMERAL : CreateMode.PERSISTENT;
                    zk.create(words[1], "data".getBytes(), ZooDefs.Ids.OPEN_ACL_UNSAFE, mode);
                    return "ok";
                case "close":
                    zk.close();
                    return "ok";
                default:
                    return "what?";
            }
        } catch (KeeperException e) {
            return "err " + e.code().intValue();
        }
    }
}

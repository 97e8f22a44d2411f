// Fetches a URL with the JDK's own classes, which take a proxy from -Dhttps.proxyHost and no variable.
import java.net.URI;

public class Fetch {
    public static void main(String[] arguments) throws Exception {
        var connection = URI.create(arguments[0]).toURL().openConnection();
        System.out.println(new String(connection.getInputStream().readAllBytes()));
    }
}

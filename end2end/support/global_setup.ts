import { openCollector } from "./collector.ts";
import { startMailServer } from "./mail_server.ts";
import { startNotes, tellWhetherWhole } from "./seen.ts";
import { startFleet } from "./servers.ts";

export default async function globalSetup(): Promise<() => Promise<void>> {
  tellWhetherWhole();
  const forget = startNotes();
  const [mail, collector] = [await startMailServer(), await openCollector()];
  try {
    const stop = await startFleet(mail.smtpPort, collector.url);
    return async () => {
      await stop();
      await mail.close();
      await collector.close();
      forget();
    };
  } catch (error) {
    await mail.close();
    await collector.close();
    forget();
    throw error;
  }
}
